import { once } from "node:events";
import * as net from "node:net";
import type { TestContext } from "node:test";
import type { Fields, Step } from "./scripted-server.ts";

/** What a scripted peer does about a request, one after the other. */
export type Http1Step = string | Uint8Array | typeof flush | typeof close | typeof reset;

/** Whatever comes next is a packet of its own. */
export const flush = Symbol("flush");
/** The socket is closed, in good order or with RST. */
export const close = Symbol("close");
export const reset = Symbol("reset");

export interface ScriptedHttp1Server {
  readonly address: string;
  /** What the next request gets. */
  script: readonly Http1Step[];
  /** When it gets it: with its headers, or when it is whole. */
  answerAt: "headers" | "end";
  /** The heads of the requests, in their order. */
  readonly requests: string[];
  /** Connections that there have been, and those that are open. */
  connections(): { readonly all: number; readonly open: number };
}

/** A peer that writes bytes and does not look at them, so that it can say what no server would. */
export async function startScriptedHttp1Server(t: TestContext): Promise<ScriptedHttp1Server> {
  const sockets = new Set<net.Socket>();
  let all = 0;
  const server = net.createServer((socket) => {
    all++;
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    let received = "";
    let hasHead = false;
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      const end = received.indexOf("\r\n\r\n");
      if (end === -1) return;
      const head = received.slice(0, end);
      if (!hasHead) {
        hasHead = true;
        scripted.requests.push(head);
        if (scripted.answerAt === "headers") void play(socket, scripted.script);
      }
      const body = received.slice(end + 4);
      const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
      const isWhole = length === undefined ? body.endsWith("0\r\n\r\n") : body.length === Number(length);
      if (!isWhole) return;
      received = "";
      hasHead = false;
      if (scripted.answerAt === "end") void play(socket, scripted.script);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const scripted: ScriptedHttp1Server = {
    address: `127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    script: [],
    answerAt: "end",
    requests: [],
    connections: () => ({ all, open: sockets.size }),
  };
  return scripted;
}

async function play(socket: net.Socket, script: readonly Http1Step[]): Promise<void> {
  let bytes: Uint8Array[] = [];
  const write = () => {
    if (bytes.length > 0 && !socket.destroyed) socket.write(Buffer.concat(bytes));
    bytes = [];
  };
  for (const step of script) {
    if (typeof step === "string") bytes.push(Buffer.from(step, "latin1"));
    else if (typeof step !== "symbol") bytes.push(step);
    else {
      write();
      if (step === flush) await new Promise((resolve) => setTimeout(resolve, 2));
      else if (step === close) socket.end();
      else socket.resetAndDestroy();
    }
  }
  write();
}

/** The same answer as over HTTP/2: in chunks, unless its headers say how long it is. */
export function toHttp1(script: readonly Step[]): Http1Step[] {
  const steps: Http1Step[] = [];
  let hasHead = false;
  let isChunked = false;
  for (const step of script) {
    if (step === "flush") steps.push(flush);
    else if (step === "close") steps.push(close);
    else if ("reset" in step) steps.push(reset);
    else if ("goaway" in step) throw new TypeError("HTTP/1.1 has no GOAWAY");
    else if ("data" in step) {
      steps.push(isChunked ? chunk(step.data) : step.data);
      if (step.isEnd && isChunked) steps.push("0\r\n\r\n");
    } else if (hasHead) {
      steps.push(`0\r\n${lines(step.headers)}\r\n`);
    } else {
      hasHead = true;
      isChunked = !step.isEnd && !step.headers.some(([name]) => name === "content-length");
      const framing: Fields = isChunked
        ? [["transfer-encoding", "chunked"]]
        : step.isEnd
          ? [["content-length", "0"]]
          : [];
      const [, status = ""] = step.headers.find(([name]) => name === ":status") ?? [];
      steps.push(`HTTP/1.1 ${status} Whatever\r\n${lines([...step.headers, ...framing])}\r\n`);
    }
  }
  return steps;
}

function lines(fields: Fields): string {
  return fields
    .filter(([name]) => !name.startsWith(":"))
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("");
}

function chunk(data: Uint8Array): Uint8Array {
  if (data.length === 0) return data;
  return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from("\r\n")]);
}

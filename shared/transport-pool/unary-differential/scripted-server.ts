import { once } from "node:events";
import * as net from "node:net";
import type { TestContext } from "node:test";

/** What a scripted peer does about a request, one after the other. */
export type Step =
  | { readonly headers: Fields; readonly isEnd?: boolean }
  | { readonly data: Uint8Array; readonly isEnd?: boolean }
  | { readonly reset: number }
  | { readonly goaway: number; readonly lastStream?: number }
  /** Its socket is closed. */
  | "close"
  /** Whatever comes next is a packet of its own. */
  | "flush";

/** Names and values; a name may come several times. */
export type Fields = readonly (readonly [name: string, value: string])[];

export interface ScriptedServer {
  readonly address: string;
  /** What the next request gets. */
  script: readonly Step[];
  /** When it gets it: with its headers, or when it is whole. */
  answerAt: "headers" | "end";
  /** Codes of the RST_STREAM frames that it has been sent. */
  readonly resets: number[];
  requests(): number;
}

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const END_STREAM = 1;
const END_HEADERS = 4;
const ACK = 1;

/** A peer that speaks frames and nothing above them, so that it can say what no server would. */
export async function startScriptedServer(t: TestContext): Promise<ScriptedServer> {
  const sockets = new Set<net.Socket>();
  let requests = 0;
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)));
    let received = Buffer.alloc(0);
    let hasPreface = false;
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (!hasPreface) {
        if (received.length < PREFACE.length) return;
        received = received.subarray(PREFACE.length);
        hasPreface = true;
      }
      for (;;) {
        if (received.length < 9) return;
        const length = received.readUIntBE(0, 3);
        if (received.length < 9 + length) return;
        const [type, flags] = [received[3] ?? 0, received[4] ?? 0];
        const stream = received.readUInt32BE(5) & 0x7fffffff;
        const payload = received.subarray(9, 9 + length);
        received = received.subarray(9 + length);
        if (type === SETTINGS && (flags & ACK) === 0) socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
        else if (type === PING && (flags & ACK) === 0) socket.write(frame(PING, ACK, 0, payload));
        else if (type === RST_STREAM) scripted.resets.push(payload.readUInt32BE(0));
        else if (type === HEADERS) {
          requests++;
          if (scripted.answerAt === "headers") void play(socket, stream, scripted.script);
        } else if (type === DATA && (flags & END_STREAM) !== 0 && scripted.answerAt === "end") {
          void play(socket, stream, scripted.script);
        }
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = server.address() as net.AddressInfo;
  const scripted: ScriptedServer = {
    address: `127.0.0.1:${port}`,
    script: [],
    answerAt: "end",
    resets: [],
    requests: () => requests,
  };
  return scripted;
}

async function play(socket: net.Socket, stream: number, script: readonly Step[]): Promise<void> {
  let frames: Buffer[] = [];
  const flush = () => {
    if (frames.length > 0 && !socket.destroyed) socket.write(Buffer.concat(frames));
    frames = [];
  };
  for (const step of script) {
    if (step === "flush") {
      flush();
      await new Promise((resolve) => setTimeout(resolve, 2));
    } else if (step === "close") {
      flush();
      socket.end();
    } else if ("headers" in step) {
      frames.push(frame(HEADERS, END_HEADERS | (step.isEnd ? END_STREAM : 0), stream, encode(step.headers)));
    } else if ("data" in step) {
      frames.push(frame(DATA, step.isEnd ? END_STREAM : 0, stream, step.data));
    } else if ("reset" in step) {
      frames.push(frame(RST_STREAM, 0, stream, uint32(step.reset)));
    } else {
      frames.push(frame(GOAWAY, 0, 0, Buffer.concat([uint32(step.lastStream ?? stream), uint32(step.goaway)])));
    }
  }
  flush();
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK (RFC 7541, 6.2.2): each field a literal that is not indexed, with no Huffman code. */
function encode(fields: Fields): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) parts.push(Buffer.from([0]), text(name), text(value));
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  const most = 127;
  if (bytes.length < most) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const head = [most];
  let rest = bytes.length - most;
  for (; rest >= 128; rest >>>= 7) head.push((rest & 127) | 128);
  head.push(rest);
  return Buffer.concat([Buffer.from(head), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import type { TestContext } from "node:test";
import { closeAfter } from "./close-after.ts";
import { within } from "./waiting.ts";

/** A message as gRPC, gRPC-Web and Connect streams frame it: flags, length, bytes. */
export function envelope(message: Uint8Array | string, flags = 0): Buffer {
  const bytes = Buffer.from(message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags, 0);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

export interface Envelope {
  readonly flags: number;
  readonly data: Buffer;
}

export function readEnvelopes(body: Buffer): Envelope[] {
  const envelopes: Envelope[] = [];
  for (let at = 0; at < body.length; ) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    envelopes.push({ flags: body.readUInt8(at), data: body.subarray(at + 5, end) });
    at = end;
  }
  return envelopes;
}

export interface Answer {
  readonly status: number;
  readonly headers: http2.IncomingHttpHeaders;
  /** Empty when there were none. */
  readonly trailers: http2.IncomingHttpHeaders;
  readonly body: Buffer;
  /** With which code the stream was reset; 0 when it was not. */
  readonly rstCode: number;
}

export interface Http2Client {
  readonly session: http2.ClientHttp2Session;
  /** A stream with its headers sent, for a test to go on with. */
  open(path: string, headers?: http2.OutgoingHttpHeaders): http2.ClientHttp2Stream;
  /** A whole request; rejects only when there is no answer. */
  call(path: string, headers: http2.OutgoingHttpHeaders, body?: Uint8Array | string): Promise<Answer>;
}

/** One HTTP/2 connection on which a test says what it likes. Closed when the test ends. */
export async function connectHttp2(
  t: TestContext,
  url: string,
  options: http2.ClientSessionOptions | http2.SecureClientSessionOptions = {},
): Promise<Http2Client> {
  // Node's own 10 MB would refuse large answers on this side.
  const session = http2.connect(url, { maxSessionMemory: 1_000, ...options });
  session.on("error", () => {});
  closeAfter(t, () => session.destroy());
  await within(once(session, "connect"), "an HTTP/2 connection");
  function open(path: string, headers: http2.OutgoingHttpHeaders = {}): http2.ClientHttp2Stream {
    const stream = session.request({ ":method": "POST", ":path": path, ...headers }, { endStream: false });
    stream.on("error", () => {});
    return stream;
  }
  return {
    session,
    open,
    call(path, headers, body) {
      const stream = open(path, headers);
      stream.end(body);
      return answerOf(stream);
    },
  };
}

/** What comes back on a stream. */
export async function answerOf(stream: http2.ClientHttp2Stream): Promise<Answer> {
  let headers: http2.IncomingHttpHeaders = {};
  let trailers: http2.IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on("error", () => {});
  stream.on("response", (response) => {
    headers = response;
  });
  stream.on("trailers", (block) => {
    trailers = block;
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  if (stream.closed) resolve();
  stream.once("close", resolve);
  await within(closed, "the end of a stream");
  return {
    status: Number(headers[":status"] ?? 0),
    headers,
    trailers,
    body: Buffer.concat(chunks),
    rstCode: stream.rstCode ?? 0,
  };
}

/** A whole request over HTTP/1.1, on a connection of its own. Without `content-length` the body goes in chunks. */
export async function callHttp1(
  url: string,
  path: string,
  headers: http.OutgoingHttpHeaders,
  body?: Uint8Array | string,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  const { ":method": method = "POST", ...rest } = headers;
  const request = http.request(new URL(url), { path, method: String(method), headers: rest, agent: false }, resolve);
  request.on("error", reject);
  if (body !== undefined) request.write(body);
  request.end();
  const response = await within(promise, "a response");
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    trailers: response.trailers,
    body: Buffer.concat(chunks),
    rstCode: 0,
  };
}

export interface TcpClient {
  readonly socket: net.Socket;
  /** All that has come so far. */
  received(): Buffer;
  /** Settles when the connection has closed, however. */
  readonly closed: Promise<void>;
}

/** A TCP connection on which a test says what it likes, byte by byte. Closed when the test ends. */
export async function connectTcp(t: TestContext, port: number, host = "127.0.0.1"): Promise<TcpClient> {
  const socket = net.connect({ port, host });
  const chunks: Buffer[] = [];
  socket.setNoDelay(true);
  socket.on("data", (chunk) => chunks.push(chunk));
  socket.on("error", () => {});
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  socket.once("close", () => resolve());
  closeAfter(t, () => socket.destroy());
  await within(once(socket, "connect"), "a TCP connection");
  return { socket, received: () => Buffer.concat(chunks), closed };
}

/** How every HTTP/2 connection begins, before its first SETTINGS frame. */
export const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** The numbers of RFC 9113, 6. */
export const frameTypes = { data: 0, headers: 1, rstStream: 3, settings: 4, ping: 6, goaway: 7, continuation: 9 };

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

/** A header block without compression: every field a literal that is not indexed (RFC 7541, 6.2.2). */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of Object.entries(headers)) {
    parts.push(Buffer.from([0]), literal(name), literal(value));
  }
  return Buffer.concat(parts);
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
  length.push(rest);
  return Buffer.concat([Buffer.from(length), bytes]);
}

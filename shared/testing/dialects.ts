import { codeToString } from "@connectrpc/connect/protocol-connect";
import { type Answer, type Envelope, envelope, readEnvelopes } from "./wire.ts";

/** How a protocol looks on the wire, for tests that write it byte by byte. */
export interface Dialect {
  readonly name: string;
  readonly contentType: string;
  /** Of its kinds of calls: Connect has another form for those that stream. */
  readonly kind: "any" | "unary" | "streaming";
  /** Needs trailers, and so HTTP/2. */
  readonly http2Only: boolean;
  readonly timeoutHeader: string;
  /** How the headers name the compression of messages. */
  readonly encodingHeader: string;
  /** A body of one message. */
  body(message: Uint8Array | string): Buffer;
}

const framed = (message: Uint8Array | string) => envelope(message);
const grpc = { timeoutHeader: "grpc-timeout", encodingHeader: "grpc-encoding", body: framed } as const;

export const dialects = {
  grpc: { name: "gRPC", contentType: "application/grpc", kind: "any", http2Only: true, ...grpc },
  grpcWeb: { name: "gRPC-Web", contentType: "application/grpc-web+proto", kind: "any", http2Only: false, ...grpc },
  connect: {
    name: "Connect",
    contentType: "application/proto",
    kind: "unary",
    http2Only: false,
    timeoutHeader: "connect-timeout-ms",
    encodingHeader: "content-encoding",
    body: (message) => Buffer.from(message),
  },
  connectJson: {
    name: "Connect with JSON",
    contentType: "application/json",
    kind: "unary",
    http2Only: false,
    timeoutHeader: "connect-timeout-ms",
    encodingHeader: "content-encoding",
    body: (message) => Buffer.from(message),
  },
  connectStream: {
    name: "Connect streaming",
    contentType: "application/connect+proto",
    kind: "streaming",
    http2Only: false,
    timeoutHeader: "connect-timeout-ms",
    encodingHeader: "connect-content-encoding",
    body: framed,
  },
} as const satisfies Record<string, Dialect>;

export interface WireError {
  /** As Connect writes it; `ok` when there is none. */
  readonly code: string;
  readonly message: string;
}

const TRAILERS = 0x80;
const END_STREAM = 0x02;

/** How a call ended, in whichever protocol the answer is. */
export function errorOf({ status, headers, trailers, body }: Answer): WireError {
  const contentType = headers["content-type"] ?? "";
  const ofGrpc = grpcError({ ...headers, ...trailers });
  if (ofGrpc !== undefined) return ofGrpc;
  if (contentType.startsWith("application/grpc")) {
    const end = find(body, TRAILERS);
    const fields = end?.data.toString().trim().split("\r\n") ?? [];
    const block = Object.fromEntries(fields.map((line) => line.split(/: ?(.*)/s)));
    return grpcError(block) ?? { code: "none", message: "the answer has no grpc-status" };
  }
  if (contentType.startsWith("application/connect+")) {
    const end = find(body, END_STREAM);
    if (end === undefined) return { code: "none", message: "the answer has no end of stream" };
    const { error } = JSON.parse(end.data.toString()) as { error?: Partial<WireError> };
    return error === undefined ? ok : { code: error.code ?? "none", message: error.message ?? "" };
  }
  if (status === 200) return ok;
  if (!contentType.startsWith("application/json")) return { code: `HTTP ${status}`, message: body.toString() };
  const { code = `HTTP ${status}`, message = "" } = JSON.parse(body.toString()) as Partial<WireError>;
  return { code, message };
}

const ok: WireError = { code: "ok", message: "" };

function grpcError(fields: Readonly<Record<string, unknown>>): WireError | undefined {
  const status = fields["grpc-status"];
  if (status === undefined) return undefined;
  if (Number(status) === 0) return ok;
  return { code: codeToString(Number(status)), message: decodeURIComponent(String(fields["grpc-message"] ?? "")) };
}

function find(body: Buffer, flag: number): Envelope | undefined {
  return readEnvelopes(body).find(({ flags }) => (flags & flag) !== 0);
}

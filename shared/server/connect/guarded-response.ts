import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "#shared/logging";
import { isTransportHeader } from "#shared/rpc";
import { fieldBytes } from "../http/exchange.ts";
import { resetUnread } from "../http/http2-exchange.ts";
import { hasOwnHeaders } from "../rpc/response.ts";
import { exchangeOf, type NodeRequest, type NodeResponse } from "./fallback.ts";
import { reportedFailure } from "./reported-failure.ts";

type Written = (error?: Error) => void;
type Fields = Readonly<OutgoingHttpHeaders>;

/**
 * Stands between Connect's plugin and Node's response. It drops headers of the transport, which Node refuses by errors that
 * cannot be caught; bounds trailers; and sends a gRPC failure before the first message as Trailers-Only, by which callers may
 * retry (gRFC A6).
 */
export class GuardedResponse {
  /** Fully qualified. */
  readonly method: string;
  readonly #request: NodeRequest;
  readonly #response: NodeResponse;
  readonly #logger: Logger;
  readonly #original: Pick<ServerResponse, "writeHead" | "write" | "addTrailers" | "end">;
  #head: { readonly status: number; readonly headers: Fields } | undefined;
  #trailers: Fields = {};
  #last: Uint8Array | undefined;
  #cannotRespond: ConnectError | undefined;

  constructor(request: NodeRequest, response: NodeResponse, method: string, logger: Logger) {
    this.method = method;
    this.#request = request;
    this.#response = response;
    this.#logger = logger;
    const original = response as unknown as ServerResponse;
    this.#original = {
      writeHead: original.writeHead.bind(response),
      write: original.write.bind(response),
      addTrailers: original.addTrailers.bind(response),
      end: original.end.bind(response),
    };
    Object.assign(response, {
      writeHead: (status: number, headers: Fields = {}) => {
        this.#head = { status, headers };
        return response;
      },
      write: (chunk: Uint8Array, _encoding: unknown, done?: Written) => this.#write(chunk, done),
      addTrailers: (trailers: Fields) => {
        this.#trailers = trailers;
      },
      end: () => this.#end(),
    });
  }

  /** Whether the whole response was handed to the connection. */
  get isFlushed(): boolean {
    const response = this.#response;
    const writable = "stream" in response ? response.stream : response;
    return response.writableEnded && writable.writableFinished;
  }

  /** The failure that the response reports. */
  get failure(): ConnectError | undefined {
    if (this.#cannotRespond !== undefined) return this.#cannotRespond;
    const { statusCode } = this.#response;
    const contentType = String(this.#head?.headers["content-type"] ?? "");
    return reportedFailure({ status: statusCode, contentType, trailers: this.#trailers, last: this.#last });
  }

  #write(chunk: Uint8Array, done: Written = () => {}): boolean {
    this.#last = chunk;
    exchangeOf(this.#request).bytesWritten += chunk.length;
    this.#writeHead();
    if (this.#cannotRespond !== undefined) return true;
    return this.#original.write(chunk, (error) => done(error ? clientGone() : undefined));
  }

  #end(): NodeResponse {
    const response = this.#response;
    const trailers = this.#boundTrailers();
    const isTrailersOnly =
      !response.headersSent &&
      "stream" in response &&
      Number(trailers["grpc-status"] ?? 0) !== 0 &&
      !hasOwnHeaders(Object.keys(this.#head?.headers ?? {}));
    if (isTrailersOnly && this.#head !== undefined) {
      const { headers } = this.#head;
      this.#head = { ...this.#head, headers: { ...headers, ...trailers } };
      this.#writeFields();
      // Node writes a head that is due at the end with END_STREAM.
      (response as unknown as ServerResponse).writeHead = this.#original.writeHead;
    } else {
      this.#writeHead();
      if (this.#cannotRespond === undefined) this.#original.addTrailers(trailers as Record<string, string>);
    }
    if (this.#cannotRespond === undefined) this.#original.end();
    if (isTrailersOnly && "stream" in response) resetUnread.call(response.stream);
    return response;
  }

  #writeHead(): void {
    if (this.#head === undefined || this.#response.headersSent || this.#cannotRespond !== undefined) return;
    // Node would close the connection at once, and with it the response, while the client still sends.
    if (!("stream" in this.#response) && !this.#request.complete) this.#response.shouldKeepAlive = true;
    this.#writeFields();
    if (this.#cannotRespond === undefined) this.#original.writeHead(this.#head.status);
  }

  #writeFields(): void {
    const response = this.#response;
    const { status, headers } = this.#head ?? { status: 200, headers: {} };
    // Only a unary call of Connect has a length, and Connect sets it.
    const hasLength = /^application\/(json|proto)/.test(String(headers["content-type"]));
    try {
      response.statusCode = status;
      for (const [name, value] of Object.entries(headers)) {
        if (value === undefined || (isTransportHeader(name) && !(hasLength && name === "content-length"))) continue;
        response.setHeader(name, value);
      }
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #giveUp(error: unknown): void {
    const response = this.#response;
    this.#logger.error({ err: error, method: this.method }, "call cannot be answered");
    this.#cannotRespond = new ConnectError("the call cannot be answered", Code.Internal, undefined, undefined, error);
    // One of them may be what cannot be written, and would fail the end as well.
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    response.statusCode = 500;
    this.#original.end();
  }

  /** Error details that do not fit are left out: a header block that is too large would cost the connection. */
  #boundTrailers(): Fields {
    const trailers: OutgoingHttpHeaders = {};
    for (const [name, value] of Object.entries(this.#trailers)) if (!isTransportHeader(name)) trailers[name] = value;
    const { maxHeaderBytes } = exchangeOf(this.#request);
    const head = this.#response.headersSent ? {} : (this.#head?.headers ?? {});
    if (sizeOf(head) + sizeOf(trailers) <= maxHeaderBytes) return trailers;
    this.#logger.warn({ method: this.method }, "error details do not fit into the response's headers");
    const status = trailers["grpc-status"];
    if (status === undefined || status === "0") {
      return { "grpc-status": String(Code.ResourceExhausted), "grpc-message": "the response's metadata is too large" };
    }
    const message = String(trailers["grpc-message"] ?? "").slice(0, MAX_MESSAGE_BYTES);
    // Not in the middle of a character.
    return { "grpc-status": status, "grpc-message": `${message.replace(/%[^%]{0,1}$/, "")}${OMITTED}` };
  }
}

/** By its code the plugin knows that no one is at fault, and prints nothing. */
function clientGone(): Error {
  return Object.assign(new Error("the caller has hung up"), { code: "ERR_STREAM_DESTROYED" });
}

const MAX_MESSAGE_BYTES = 1_024;
const OMITTED = encodeURIComponent(" (details are left out: they do not fit into the response's headers)");

function sizeOf(fields: Fields): number {
  let bytes = 0;
  for (const [name, value] of Object.entries(fields)) {
    for (const item of Array.isArray(value) ? value : [value]) bytes += fieldBytes(name, String(item));
  }
  return bytes;
}

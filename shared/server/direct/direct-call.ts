import type { IncomingMessage, ServerResponse } from "node:http";
import { Http2ServerRequest, Http2ServerResponse, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

/** The request of a call that was taken off its HTTP/2 stream, with what is asked of requests of the other kinds. */
export class DirectRequest {
  readonly method = "POST";
  readonly httpVersionMajor = 2;
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly url: string;
  readonly #rawHeaders: readonly string[];

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: readonly string[]) {
    this.stream = stream;
    this.headers = headers;
    this.url = headers[":path"] ?? "";
    this.#rawHeaders = rawHeaders;
  }

  get socket() {
    return this.stream.session?.socket;
  }

  /** As Node's compatibility layer has it. What has been read of its body is not in it. */
  compatible(): Http2ServerRequest {
    return new Http2ServerRequest(this.stream, this.headers, {}, this.#rawHeaders);
  }
}

/** For each answer: without, Node may say "close" before it knows that all was written. */
export const WITH_TRAILERS = { waitForTrailers: true };
/** To be sent where there is nothing to say. */
const NO_TRAILERS: Readonly<Record<string, string>> = {};

/** Where a stream has the response that is written to it. */
const responseKey = Symbol("direct response");

type DirectStream = ServerHttp2Stream & { [responseKey]?: DirectResponse | undefined };

/** The response of such a call. */
export class DirectResponse {
  readonly stream: ServerHttp2Stream;
  #trailers: Readonly<Record<string, string>> = NO_TRAILERS;
  #compatible: Http2ServerResponse | undefined = undefined;

  constructor(stream: ServerHttp2Stream) {
    this.stream = stream;
  }

  /** As Node's compatibility layer has it, for all that is not written here. From then on, it sends the trailers. */
  compatible(): Http2ServerResponse {
    this.#compatible ??= new Http2ServerResponse(this.stream);
    return this.#compatible;
  }

  /** Writes headers, names and values in turn, and the body; the trailers follow when that is out. */
  write(headers: readonly (string | number)[], body: Uint8Array, trailers = NO_TRAILERS): void {
    const { stream } = this;
    this.#trailers = trailers;
    (stream as DirectStream)[responseKey] = this;
    stream.respond(headers as string[], WITH_TRAILERS);
    // Not before: where that fails, it is the compatibility layer that goes on.
    stream.on("wantTrailers", sendTrailers);
    stream.end(body);
  }

  get trailers(): Readonly<Record<string, string>> {
    return this.#trailers;
  }

  /** Of what was written by the compatibility layer, as are those that follow. */
  get statusCode(): number {
    return this.#compatible?.statusCode ?? 200;
  }

  get writableEnded(): boolean {
    return this.#compatible?.writableEnded ?? false;
  }
}

// The same for all: an HTTP/2 stream's lists of listeners outlive the stream, and what they refer to would as well.
function sendTrailers(this: DirectStream): void {
  const response = this[responseKey];
  this[responseKey] = undefined;
  this.sendTrailers({ ...response?.trailers });
}

/** What Node's own classes can go on with. */
export function compatible(request: Request | DirectRequest): Request;
export function compatible(response: Response | DirectResponse): Response;
export function compatible(one: Request | Response | DirectRequest | DirectResponse): Request | Response {
  return one instanceof DirectRequest || one instanceof DirectResponse ? one.compatible() : one;
}

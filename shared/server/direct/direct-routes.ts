import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { type CallInfo, callInfoOf } from "../call-info.ts";
import type { RequestLog } from "../request-log.ts";
import { DirectRequest, DirectResponse } from "./direct-call.ts";

/** Serves a method's ordinary calls. */
export interface DirectRoute {
  /** @returns false for a call that is not ordinary: nothing has been done with it */
  takeDirect(request: DirectRequest, response: DirectResponse): boolean;
}

export interface DirectRoutesOptions {
  readonly log: RequestLog;
  /** Whether calls from a page, which have an `Origin`, are Fastify's. */
  readonly leavesOrigins: boolean;
}

/**
 * The shortest way for unary calls over HTTP/2: off their stream, past Node's compatibility layer (two objects and a
 * dozen listeners a call) and Fastify. For servers where Fastify has nothing to add: at the most CORS, for calls from a page.
 */
export class DirectRoutes {
  readonly #routes = new Map<string, DirectRoute>();
  readonly #log: RequestLog;
  readonly #leavesOrigins: boolean;

  constructor({ log, leavesOrigins }: DirectRoutesOptions) {
    this.#log = log;
    this.#leavesOrigins = leavesOrigins;
  }

  add(requestPath: string, route: DirectRoute): void {
    this.#routes.set(requestPath, route);
  }

  /** @returns false for all that is not an ordinary call: nothing has been done with it */
  take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: readonly string[]): boolean {
    if (headers[":method"] !== "POST" || headers.expect !== undefined) return false;
    if (this.#leavesOrigins && headers.origin !== undefined) return false;
    const route = this.#routes.get(headers[":path"] ?? "");
    if (route === undefined) return false;
    const request = new DirectRequest(stream, headers, rawHeaders);
    const response = new DirectResponse(stream);
    if (!route.takeDirect(request, response)) return false;
    (stream as TakenStream)[takenKey] = new Taken(request, response, this.#log);
    // What has happened to a stream is told by its closing.
    stream.on("error", ignore);
    stream.on("close", onClose);
    return true;
  }
}

class Taken {
  readonly request: DirectRequest;
  readonly response: DirectResponse;
  readonly log: RequestLog;

  constructor(request: DirectRequest, response: DirectResponse, log: RequestLog) {
    this.request = request;
    this.response = response;
    this.log = log;
  }
}

/** Where a stream has the call that was taken off it. */
const takenKey = Symbol("taken call");

type TakenStream = ServerHttp2Stream & { [takenKey]?: Taken | undefined };

function ignore(): void {}

// The same for all: an HTTP/2 stream's lists of listeners outlive the stream, and what they refer to would as well.
function onClose(this: TakenStream): void {
  const taken = this[takenKey];
  this[takenKey] = undefined;
  if (taken === undefined) return;
  const info: CallInfo = callInfoOf(taken.request);
  taken.log.closed(taken.request, taken.response, info);
}

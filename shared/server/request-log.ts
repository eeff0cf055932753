import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse, ServerHttp2Stream } from "node:http2";
import type { Logger } from "#shared/logging";
import { type CallInfo, callInfoOf } from "./call-info.ts";

export interface RequestLog {
  /** Tells of the request when its response has closed. */
  watch(request: Request, response: Response): void;
  /** The response has closed. */
  closed(request: LoggedRequest, response: LoggedResponse, info: CallInfo): void;
}

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;
type LoggedRequest = Pick<Request, "method" | "url">;
type LoggedResponse = Pick<Response, "statusCode" | "writableEnded"> & { readonly stream?: ServerHttp2Stream };

/**
 * One line for a request that no interceptor saw, and so is not in the access log: plain HTTP, unknown paths, and calls
 * that were refused before their message was read. Those that went well, at `debug`.
 */
export function createRequestLog(logger: Logger): RequestLog {
  // One listener for all: what hangs on an HTTP/2 stream outlives its call by far.
  function onClose(this: Response): void {
    const request: Request = this.req;
    closed(request, this, callInfoOf(request));
  }

  function closed(request: LoggedRequest, response: LoggedResponse, info: CallInfo): void {
    (info.unary ?? info.stream)?.closed();
    if (info.log === undefined) logRequest(request, response, info);
  }

  function logRequest(request: LoggedRequest, response: LoggedResponse, info: CallInfo): void {
    const status = response.statusCode;
    const grpcStatus = grpcStatusOf(response);
    const isComplete = response.writableEnded;
    const line = {
      method: `${request.method} ${request.url?.split("?", 1)[0]}`,
      status,
      ...(grpcStatus === undefined ? {} : { grpc_status: grpcStatus }),
      ...(isComplete ? {} : { aborted: true }),
      ms: Math.round((performance.now() - info.startedAtMs) * 100) / 100,
      peer: info.peer,
    };
    const isFine = isComplete && status < 400 && (grpcStatus === undefined || grpcStatus === "0");
    logger[isFine ? "debug" : "info"](line, "request");
  }

  return {
    watch(request, response) {
      callInfoOf(request);
      // Not "finish": a response that the caller did not wait for has none.
      response.on("close", onClose);
    },
    closed,
  };
}

function grpcStatusOf({ stream }: LoggedResponse): string | undefined {
  const status = stream?.sentTrailers?.["grpc-status"] ?? stream?.sentHeaders?.["grpc-status"];
  return status === undefined ? undefined : String(status);
}

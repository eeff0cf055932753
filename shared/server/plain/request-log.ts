import type { Logger } from "#shared/logging";
import { exchangeOf, type NodeRequest, type NodeResponse } from "../connect/fallback.ts";
import { isRecorded } from "../connect/guard.ts";

/**
 * Writes one line for a request that is no call, and so is not in the access log: plain HTTP, unknown paths, content types of no
 * protocol. Those that went well, at `debug`.
 */
export function createRequestLog(logger: Logger): (request: NodeRequest, response: NodeResponse) => void {
  // One listener for all: what hangs on an HTTP/2 stream outlives its call by far.
  function onClose(this: NodeResponse): void {
    const request: NodeRequest = this.req;
    const exchange = exchangeOf(request);
    if (isRecorded(exchange)) return;
    const status = this.statusCode;
    const grpcStatus = grpcStatusOf(this);
    const isComplete = this.writableEnded;
    const line = {
      method: `${request.method} ${request.url?.split("?", 1)[0]}`,
      status,
      ...(grpcStatus === undefined ? {} : { grpc_status: grpcStatus }),
      ...(isComplete ? {} : { aborted: true }),
      ms: Math.round((performance.now() - exchange.startedAtMs) * 100) / 100,
      peer: exchange.peer,
    };
    const isFine = isComplete && status < 400 && (grpcStatus === undefined || grpcStatus === "0");
    logger[isFine ? "debug" : "info"](line, "request");
  }

  // Not "finish": a response that the caller did not wait for has none.
  return (_request, response) => void response.on("close", onClose);
}

function grpcStatusOf(response: NodeResponse): string | undefined {
  const stream = "stream" in response ? response.stream : undefined;
  const status = stream?.sentTrailers?.["grpc-status"] ?? stream?.sentHeaders?.["grpc-status"];
  return status === undefined ? undefined : String(status);
}

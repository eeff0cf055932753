import type { Http2ServerResponse } from "node:http2";
import type { FastifyInstance } from "fastify";
import type { Logger } from "#shared/logging";
import { callInfoOf } from "./call-info.ts";

/**
 * One line for each request that no interceptor saw, and so is not in the access log: plain HTTP, unknown paths, and
 * calls that were refused before their message was read. Those that went well, at `debug`.
 */
export function logOtherRequests(fastify: FastifyInstance, logger: Logger): void {
  fastify.addHook("onRequest", (request, _reply, done) => {
    callInfoOf(request);
    done();
  });
  fastify.addHook("onResponse", (request, reply, done) => {
    const { isLogged, peer, startedAtMs } = callInfoOf(request);
    if (!isLogged) {
      const { stream } = reply.raw as unknown as Partial<Http2ServerResponse>;
      const grpcStatus = stream?.sentTrailers?.["grpc-status"] ?? stream?.sentHeaders?.["grpc-status"];
      const line = {
        method: `${request.method} ${request.url.split("?", 1)[0]}`,
        status: reply.raw.statusCode,
        ...(grpcStatus === undefined ? {} : { grpc_status: String(grpcStatus) }),
        ms: Math.round((performance.now() - startedAtMs) * 100) / 100,
        peer,
      };
      const isFine = line.status < 400 && (grpcStatus === undefined || line.grpc_status === "0");
      logger[isFine ? "debug" : "info"](line, "request");
    }
    done();
  });
}

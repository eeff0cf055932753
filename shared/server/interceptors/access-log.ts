import { Code, ConnectError, type Interceptor, type StreamResponse } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import type { Logger } from "#shared/logging";
import { type CallInfo, callInfoKey } from "../call-info.ts";

/** Calls of the platform itself, asked for every few seconds by load balancers. */
const platformPackages = /^grpc\.(health|reflection)\./;

/** Failures that are the server's, not the caller's. */
const serverFaults: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss, Code.Unimplemented]);

/**
 * One line a call when it ends: method, code, ms, peer, caller; the logger adds trace and request id. At `info`, the
 * server's own faults at `error`, health checks and reflection at `debug`.
 */
export function accessLogInterceptor(logger: Logger): Interceptor {
  return (next) => async (request) => {
    const info = request.contextValues.get(callInfoKey);
    info.isLogged = true;
    const method = `${request.service.typeName}/${request.method.name}`;
    const caller = request.header.get("x-caller") ?? undefined;
    const log = (error?: unknown) => logCall(logger, { method, caller }, info, error);
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: loggedItems(response.message, log) } as StreamResponse;
      log();
      return response;
    } catch (error) {
      log(error);
      throw error;
    }
  };
}

async function* loggedItems<T>(items: AsyncIterable<T>, log: (error?: unknown) => void): AsyncGenerator<T> {
  let failure: unknown;
  try {
    yield* items;
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    log(failure);
  }
}

function logCall(
  logger: Logger,
  call: { method: string; caller: string | undefined },
  { peer, startedAtMs }: CallInfo,
  error: unknown,
): void {
  const code = error === undefined ? undefined : ConnectError.from(error).code;
  const line = {
    ...call,
    code: code === undefined ? "ok" : codeToString(code),
    ms: Math.round((performance.now() - startedAtMs) * 100) / 100,
    peer,
  };
  if (code !== undefined && serverFaults.has(code)) logger.error(line, "call failed");
  else if (platformPackages.test(call.method)) logger.debug(line, "call");
  else logger.info(line, "call");
}

import { callFields, type Logger } from "#shared/logging";
import { type CallObserver, type CallRecord, isServerFault } from "../call-record.ts";
import { codeName } from "../rpc/status.ts";
import { isPlatformService } from "./platform-services.ts";

/**
 * Writes one line a call when it ends, whichever way: method, code, ms, peer, caller, trace and request id. At `info`, the
 * server's own faults at `error`, health checks and reflection at `debug`.
 */
export function createAccessLog(logger: Logger): CallObserver {
  return {
    end(record) {
      const { method, exchange, callContext, failure } = record;
      const line = {
        // The transport ends a call outside of it.
        ...callFields(callContext),
        method,
        caller: callContext.caller,
        code: failure === undefined ? "ok" : codeName(failure.code),
        ms: Math.round((performance.now() - exchange.startedAtMs) * 100) / 100,
        peer: exchange.peer,
        err: unlogged(record),
      };
      if (isServerFault(record)) logger.error(line, "call failed");
      else if (isPlatformService(method)) logger.debug(line, "call");
      else logger.info(line, "call");
    },
  };
}

function unlogged({ failure, isUnlogged }: CallRecord): unknown {
  return isUnlogged ? failure : undefined;
}

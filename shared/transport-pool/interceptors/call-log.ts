import { Code } from "@connectrpc/connect";
import { currentCall } from "#shared/call-context";
import { nameOfCode } from "#shared/errors";
import type { Logger } from "#shared/logging";
import type { CallObserver, CallRecord } from "../call/call-record.ts";

/**
 * Codes that are the caller's own doing or a plain response: worth a line, no alarm. All others say that something is
 * wrong with the peer, the way to it, or the contract.
 */
const EXPECTED: ReadonlySet<Code> = new Set([
  Code.Canceled,
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.PermissionDenied,
  Code.Unauthenticated,
  Code.FailedPrecondition,
  Code.Aborted,
  Code.OutOfRange,
]);

/**
 * One line for each call: debug when it went well, info for codes that are a response, warn for those that are a fault. The
 * logger adds the trace and request id of the call that it is part of.
 */
export function createCallLog(logger: Pick<Logger, "debug" | "info" | "warn" | "isLevelEnabled">): CallObserver {
  return {
    end(record) {
      const { failure } = record;
      if (failure === undefined) {
        if (logger.isLevelEnabled("debug")) logger.debug(fieldsOf(record, "ok"), "outgoing call");
        return;
      }
      // The incoming call has ended: this one was left, and the reason says nothing of its peer.
      const wasLeft = currentCall()?.signal.aborted === true && failure.code !== Code.DeadlineExceeded;
      const code = wasLeft ? Code.Canceled : failure.code;
      const fields = { ...fieldsOf(record, nameOfCode(code)), error: failure.message };
      // No stack: the error goes to the caller's code, and says there where it was made.
      logger[EXPECTED.has(code) ? "info" : "warn"](fields, "outgoing call");
    },
  };
}

function fieldsOf({ service, method, startedAtMs, attempts, peer }: CallRecord, code: string) {
  return {
    // The logger's own `service` is the one that calls.
    peer_service: service,
    method: `${method.parent.typeName}/${method.name}`,
    code,
    ms: Math.round((performance.now() - startedAtMs) * 10) / 10,
    attempt: Math.max(attempts, 1),
    peer,
  };
}

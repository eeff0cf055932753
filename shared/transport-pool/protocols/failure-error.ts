import { constants } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { describeError } from "#shared/errors";
import { codeOfReset, nameOfHttp2Code } from "#shared/rpc";
import { notProcessed } from "../call/not-processed-error.ts";
import type { ExchangeFailure } from "../connections/exchange.ts";

/** Timeouts travel in whole milliseconds: the peer's deadline can be so much earlier than the caller's. */
const ROUNDING_MS = 1;

/**
 * Maps how an exchange ended to the error of its call, by gRPC's table. A reset with CANCEL at or after the call's deadline
 * is DEADLINE_EXCEEDED: the peer watches the same deadline.
 *
 * @param deadlineMs on the clock of `performance.now()`
 */
export function failureError(
  { kind, http2Code, cause }: ExchangeFailure,
  deadlineMs: number | undefined,
): ConnectError {
  const reason = cause === undefined ? "" : describeError(cause);
  switch (kind) {
    case "refused":
      return notProcessed("refused", "the peer refused the stream before the call was processed", cause);
    case "connect":
    case "goaway":
      return notProcessed("unsent", `${reason} before the call was sent`, cause);
    case "closed":
      return new ConnectError("the transport pool was closed", Code.Canceled);
    case "disconnected":
      return withCause(`connection lost: ${reason}`, Code.Unavailable, cause);
    case "protocol":
      return withCause(reason, Code.Internal, cause);
    case "reset":
      if (http2Code === constants.NGHTTP2_CANCEL && isOver(deadlineMs)) return timedOut();
      return withCause(
        `the peer reset the stream with ${nameOfHttp2Code(http2Code)} before its response was complete`,
        codeOfReset(http2Code),
        cause,
      );
  }
}

/** The error of a call whose deadline has passed, in Connect's words. */
export function timedOut(): ConnectError {
  return new ConnectError("the operation timed out", Code.DeadlineExceeded);
}

function isOver(deadlineMs: number | undefined): boolean {
  return deadlineMs !== undefined && performance.now() + ROUNDING_MS >= deadlineMs;
}

function withCause(message: string, code: Code, cause: Error | undefined): ConnectError {
  return new ConnectError(message, code, undefined, undefined, cause);
}

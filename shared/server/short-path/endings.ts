import { constants } from "node:http2";
import type { DirectResponse } from "../direct/direct-call.ts";
import type { Response } from "../unary/answer.ts";

/** What the signal of a call that went well says afterwards, to what was left behind. */
export const OVER = new DOMException("This operation was aborted", "AbortError");

/** For a timer: one function for all calls. */
export function late(call: { late(): void }): void {
  call.late();
}

/** Of an answer that its caller does not read. */
export function dropUnread(response: Response | DirectResponse): void {
  if ("stream" in response) response.stream.close(constants.NGHTTP2_CANCEL);
  else response.destroy();
}

/** Puts what an interceptor has answered in the place of the call's own headers. */
export function replace(target: Headers, source: Headers): void {
  for (const name of [...target.keys()]) target.delete(name);
  for (const [name, value] of source) target.set(name, value);
}

import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { CallContext } from "#shared/call-context";
import type { AdmissionSlot } from "../shedding/admission-slot.ts";

/** What the transport knows of a call and Connect's requests do not carry. */
export interface CallInfo {
  /** Of which `currentCall()` is one, in the handler and in all that it starts. */
  readonly callContext: CallContext;
  /** Given to the handler. Undefined where Connect makes it. */
  readonly handlerContext: HandlerContext | undefined;
  /** What the call takes of the server's limits. Undefined: nothing. */
  slot: AdmissionSlot | undefined;
  /** Called with its reason when the context's signal fires, where a listener for each call is too much. */
  onAbort: ((reason: unknown) => void) | undefined;
}

/** Undefined where interceptors run without this server, such as in Connect's router transport. */
export const callInfoKey = createContextKey<CallInfo | undefined>(undefined, {
  description: "what the transport knows of the call",
});

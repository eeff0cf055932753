import type { HandlerContext } from "@connectrpc/connect";
import { runInCall } from "#shared/call-context";
import type { CallInfo } from "./interceptors/call-info.ts";
import type { MapError } from "./interceptors/error-mapping.ts";
import { isPlatformService } from "./interceptors/platform-services.ts";
import type { Admission } from "./shedding/admission.ts";
import { AdmissionSlot } from "./shedding/admission-slot.ts";

/** Looks at the head of a call, before anything of its body is read. @throws to refuse it */
export type Stage = (call: CallInfo, context: HandlerContext) => void | Promise<void>;

export type Stages = readonly Stage[];

/** Is asked about each call when its head has arrived, as Connect's `requestGate`. @throws to refuse it */
export type RequestGate = (context: HandlerContext) => void | Promise<void>;

export interface StagesOptions {
  readonly admission: Admission | undefined;
  readonly requestGate: RequestGate | undefined;
  readonly mapError: MapError;
}

/** What the head of every call passes, in this order: shed → gate. Its body and the interceptors come after. */
export function createStages({ admission, requestGate, mapError }: StagesOptions): Stages {
  return [
    ...(admission === undefined ? [] : [shedStage(admission)]),
    ...(requestGate === undefined ? [] : [gateStage(requestGate, mapError)]),
  ];
}

/** Runs the stages in their order. Returns a promise only where one of them does. */
export function runStages(
  stages: Stages,
  call: CallInfo,
  context: HandlerContext,
  from = 0,
): Promise<void> | undefined {
  for (let index = from; index < stages.length; index++) {
    const passed = stages[index]?.(call, context);
    if (passed !== undefined) return passed.then(() => runStages(stages, call, context, index + 1));
  }
  return undefined;
}

/**
 * Refuses calls that are too much. Health and reflection always pass: an overloaded server is not a dead one, and a restart
 * is the last thing that it needs.
 */
function shedStage(admission: Admission): Stage {
  return (call, { service }) => {
    if (isPlatformService(service.typeName)) return;
    call.slot = new AdmissionSlot(admission.enter());
  };
}

function gateStage(requestGate: RequestGate, mapError: MapError): Stage {
  return async (call, context) => {
    try {
      await runInCall(call.callContext, requestGate, context);
    } catch (error) {
      throw mapError(error, context.signal);
    }
  };
}

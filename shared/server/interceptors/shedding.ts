import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { callNext, watchItems } from "#shared/rpc";
import type { AdmissionSlot } from "../shedding/admission-slot.ts";
import { callInfoKey } from "./call-info.ts";

/** Keeps a call's slot for as long as its handler works, also when its caller has left in the meantime. */
export const sheddingInterceptor: Interceptor = (next) => (request) => {
  const slot = request.contextValues.get(callInfoKey)?.slot;
  if (slot === undefined) return next(request);
  slot.work();
  return callNext(next, request).then(
    (response) => {
      if (!response.stream) {
        slot.done();
        return response;
      }
      slot.rest();
      return { ...response, message: holding(slot, response.message) } as StreamResponse;
    },
    (error) => {
      slot.done();
      throw error;
    },
  );
};

function holding<T>(slot: AdmissionSlot, items: AsyncIterable<T>): AsyncIterable<T> {
  return watchItems(items, {
    around(step) {
      slot.work();
      return step();
    },
    onItem(item) {
      slot.rest();
      return item;
    },
    onEnd: () => slot.done(),
    onError(reason) {
      slot.done();
      return reason;
    },
    onReturn: () => slot.done(),
  });
}

import type { ContextKey, ContextValues } from "@connectrpc/connect";
import { type CallInfo, callInfoKey } from "../call-info.ts";

/** As those of Connect's `createContextValues`, with what the transport knows of the call. */
export class CallValues implements ContextValues {
  [id: symbol]: unknown;

  constructor(info: CallInfo) {
    this[callInfoKey.id] = info;
  }

  get<T>({ id, defaultValue }: ContextKey<T>): T {
    return id in this ? (this[id] as T) : defaultValue;
  }

  set<T>({ id }: ContextKey<T>, value: T): this {
    this[id] = value;
    return this;
  }

  delete({ id }: ContextKey<unknown>): this {
    delete this[id];
    return this;
  }
}

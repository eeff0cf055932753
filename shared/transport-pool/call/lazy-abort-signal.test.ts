import assert from "node:assert/strict";
import { test } from "node:test";
import { unaryRequest } from "../interceptors/retry/test-support.ts";
import { abortSignalOf, LazyAbortSignal, lazyAbortSignalKey } from "./lazy-abort-signal.ts";

test("a call ends once, and tells all who listen in their order, and who looks at its signal last", () => {
  const end = new LazyAbortSignal();
  const told: string[] = [];
  end.addEventListener("abort", () => told.push("first"));
  end.addEventListener("abort", () => told.push("second"));
  end.signal.addEventListener("abort", () => told.push(`signal: ${end.signal.reason}`));
  end.abort("left");
  end.abort("again");
  assert.deepEqual(told, ["first", "second", "signal: left"]);
  assert.equal(end.reason, "left");
  assert.throws(
    () => end.throwIfAborted(),
    (reason) => reason === "left",
  );
});

test("whoever is removed is not told, also when that is by another who is told", () => {
  const end = new LazyAbortSignal();
  const told: string[] = [];
  const removed = () => told.push("removed");
  const removedLater = () => told.push("removed later");
  end.addEventListener("abort", removed);
  end.addEventListener("abort", () => {
    told.push("one");
    end.removeEventListener("abort", removedLater);
  });
  end.addEventListener("abort", removedLater);
  end.removeEventListener("abort", removed);
  end.addEventListener("abort", () => told.push("last"));
  end.abort("left");
  assert.deepEqual(told, ["one", "last"]);
});

test("a signal that is asked for late has fired already, with the same reason", () => {
  const end = new LazyAbortSignal();
  end.throwIfAborted();
  end.abort("left");
  assert.equal(end.signal.aborted, true);
  assert.equal(end.signal.reason, "left");
  assert.equal(end.signal, end.signal);
});

test("a request's end is its own until somebody reads its signal, who may put another in its place", () => {
  const end = new LazyAbortSignal();
  const { signal: _, ...rest } = unaryRequest(undefined);
  const request = {
    ...rest,
    [lazyAbortSignalKey]: end,
    get signal() {
      return end.signal;
    },
  };
  assert.equal(abortSignalOf(request), end);
  assert.equal(end.isSignalMade, false);
  const other = new AbortController().signal;
  const changed = { ...request, signal: other };
  assert.equal(abortSignalOf(changed), other);
  assert.equal(abortSignalOf(request), end.signal);
});

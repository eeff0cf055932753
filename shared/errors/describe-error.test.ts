import assert from "node:assert/strict";
import { test } from "node:test";
import { describeError } from "./index.ts";

test("an error is its message, or those of the errors that it is made of", () => {
  assert.equal(describeError(new Error("refused")), "refused");
  assert.equal(describeError("refused"), "refused");
  const both = [new Error("refused at ::1"), new AggregateError([new Error("refused at 127.0.0.1"), "and so on"])];
  assert.equal(describeError(new AggregateError(both)), "refused at ::1; refused at 127.0.0.1; and so on");
  assert.equal(describeError(new AggregateError(both, "all failed")), "all failed");
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { callContextInterceptor } from "./call-context.ts";
import { cancellationInterceptor } from "./cancellation.ts";
import { serverInterceptors } from "./index.ts";
import { sheddingInterceptor } from "./shedding.ts";
import { validationInterceptor } from "./validation.ts";

const mapError = (error: unknown) => ConnectError.from(error);

test("from the outside in: context, cancellation, error mapping, slots, validation, the service's own", () => {
  const own: Interceptor[] = [(next) => next, (next) => next];
  const list = serverInterceptors({ mapError, sheds: true, validate: true, own });
  assert.equal(list.length, 7);
  assert.equal(list[0], callContextInterceptor);
  assert.equal(list[1], cancellationInterceptor);
  assert.equal(list[3], sheddingInterceptor);
  assert.equal(list[4], validationInterceptor);
  assert.deepEqual(list.slice(5), own);
});

test("without limits and validation the rest stays as it is", () => {
  const list = serverInterceptors({ mapError, sheds: false, validate: false, own: [] });
  assert.equal(list.length, 3);
  assert.ok(!list.includes(validationInterceptor));
});

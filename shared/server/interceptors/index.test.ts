import assert from "node:assert/strict";
import { test } from "node:test";
import type { Interceptor } from "@connectrpc/connect";
import { recordLog } from "#shared/testing";
import { callContextInterceptor } from "./call-context.ts";
import { cancellationInterceptor } from "./cancellation.ts";
import { serverInterceptors } from "./index.ts";
import { validationInterceptor } from "./validation.ts";

const { logger } = recordLog("silent");

test("from the outside in: context, access log, cancellation, error mapping, validation, the service's own", () => {
  const own: Interceptor[] = [(next) => next, (next) => next];
  const list = serverInterceptors({ logger, domain: "test-service", validate: true, own });
  assert.equal(list.length, 7);
  assert.equal(list[0], callContextInterceptor);
  assert.equal(list[2], cancellationInterceptor);
  assert.equal(list[4], validationInterceptor);
  assert.deepEqual(list.slice(5), own);
});

test("without validation the rest stays as it is", () => {
  const list = serverInterceptors({ logger, domain: "test-service", validate: false, own: [] });
  assert.equal(list.length, 4);
  assert.ok(!list.includes(validationInterceptor));
});

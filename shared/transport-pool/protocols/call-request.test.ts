import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { createContextValues, type UnaryRequest } from "@connectrpc/connect";
import { EchoService } from "#shared/testing";
import { abortSignalOf, LazyAbortSignal } from "../call/lazy-abort-signal.ts";
import { createCallRequest } from "./call-request.ts";
import { RawHeaders, rawHeadersOf } from "./request-headers.ts";

function requestWith(end = new LazyAbortSignal()): UnaryRequest {
  return createCallRequest({
    method: EchoService.method.echo,
    url: "http://peer/testing.v1.EchoService/Echo",
    message: create(StringValueSchema),
    contextValues: createContextValues(),
    headers: new RawHeaders(["x-a", "1"]),
    end,
  });
}

/** As interceptors do it, in TypeScript or not. */
const ways: Readonly<Record<string, (request: UnaryRequest, parts: Partial<UnaryRequest>) => UnaryRequest>> = {
  "a spread": (request, parts) => ({ ...request, ...parts }),
  "an assignment": (request, parts) => Object.assign(request, parts),
  "a request made of it": (request, parts) => Object.assign(Object.create(request) as object, parts) as UnaryRequest,
  "a request made of it by its descriptors": (request, parts) =>
    Object.create(request, Object.getOwnPropertyDescriptors(parts)) as UnaryRequest,
};

for (const [name, change] of Object.entries(ways)) {
  test(`${name} puts another signal and other headers in place`, () => {
    const controller = new AbortController();
    const changed = change(requestWith(), { signal: controller.signal, header: new Headers({ "x-b": "2" }) });
    assert.equal(changed.signal, controller.signal);
    controller.abort("left");
    assert.equal(abortSignalOf(changed).aborted, true);
    assert.deepEqual(rawHeadersOf(changed, undefined), ["x-b", "2"]);
  });
}

test("a request as it was made ends with its call, and no signal is made for that", () => {
  const end = new LazyAbortSignal();
  const request = requestWith(end);
  end.abort("over");
  assert.equal(abortSignalOf(request).reason, "over");
  assert.equal(end.isSignalMade, false);
  assert.deepEqual(rawHeadersOf(request, undefined), ["x-a", "1"]);
  assert.equal(request.signal.reason, "over");
});

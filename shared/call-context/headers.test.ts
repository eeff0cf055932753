import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CallContext,
  continueTrace,
  formatTraceparent,
  readContextHeaders,
  startTrace,
  writeContextHeaders,
} from "#shared/call-context";

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const spanId = "00f067aa0ba902b7";

test("a valid traceparent is continued: same trace, new span, the old one as parent", () => {
  const trace = continueTrace(`00-${traceId}-${spanId}-01`, "vendor=1");
  assert.equal(trace?.traceId, traceId);
  assert.equal(trace?.parentSpanId, spanId);
  assert.match(trace?.spanId ?? "", /^[0-9a-f]{16}$/);
  assert.notEqual(trace?.spanId, spanId);
  assert.equal(trace?.flags, 1);
  assert.equal(trace?.state, "vendor=1");
});

test("a later version is read as far as it is known", () => {
  assert.equal(continueTrace(`01-${traceId}-${spanId}-01-more`, null)?.traceId, traceId);
});

test("a traceparent that breaks the rules is no trace", () => {
  const malformed = [
    null,
    "",
    "abc",
    `00-${traceId}-${spanId}`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${traceId}-${spanId}-1`,
    ` 00-${traceId}-${spanId}-01`,
  ];
  for (const traceparent of malformed) assert.equal(continueTrace(traceparent, null), undefined, String(traceparent));
});

test("a tracestate over 512 characters is dropped, the trace goes on", () => {
  const trace = continueTrace(`00-${traceId}-${spanId}-00`, "v=".padEnd(513, "x"));
  assert.equal(trace?.traceId, traceId);
  assert.equal(trace?.state, undefined);
});

test("a new trace is valid and its own", () => {
  const traces = Array.from({ length: 1_000 }, startTrace);
  assert.equal(new Set(traces.map((trace) => trace.traceId)).size, 1_000);
  for (const trace of traces) assert.equal(continueTrace(formatTraceparent(trace), null)?.parentSpanId, trace.spanId);
});

test("what a caller sends is taken over, what is missing or unfit for a log line begins here", () => {
  const given = readContextHeaders(
    new Headers({ "x-request-id": "abc-1", "x-caller": "gateway", traceparent: `00-${traceId}-${spanId}-01` }),
  );
  assert.equal(given.requestId, "abc-1");
  assert.equal(given.caller, "gateway");
  assert.equal(given.trace.traceId, traceId);

  const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-7/;
  assert.match(readContextHeaders(new Headers()).requestId, uuid);
  for (const requestId of ["two words", "x".repeat(129), "tab\there"]) {
    const read = readContextHeaders(new Headers({ "x-request-id": requestId, "x-caller": requestId }));
    assert.match(read.requestId, uuid, requestId);
    assert.equal(read.caller, undefined);
  }
});

test("an outgoing call carries trace, request id and this service's name, unless it brings its own", () => {
  const trace = { ...startTrace(), state: "vendor=1" };
  const call: CallContext = {
    method: "a.B/C",
    requestId: "r1",
    trace,
    caller: "gateway",
    signal: new AbortController().signal,
  };
  const headers = new Headers();
  writeContextHeaders(headers, call, "user-service");
  assert.equal(headers.get("traceparent"), formatTraceparent(trace));
  assert.equal(headers.get("tracestate"), "vendor=1");
  assert.equal(headers.get("x-request-id"), "r1");
  assert.equal(headers.get("x-caller"), "user-service");

  const own = new Headers({ "x-request-id": "mine", traceparent: `00-${traceId}-${spanId}-01` });
  writeContextHeaders(own, call, "user-service");
  assert.equal(own.get("x-request-id"), "mine");
  assert.equal(own.get("traceparent"), `00-${traceId}-${spanId}-01`);
  assert.equal(own.get("tracestate"), null);
});

test("a call is a retried one when it is a repeat itself, or when its caller says that it works for one", () => {
  for (const [headers, isRetried] of [
    [{}, undefined],
    [{ "grpc-previous-rpc-attempts": "0" }, undefined],
    [{ "grpc-previous-rpc-attempts": "1" }, true],
    [{ "grpc-previous-rpc-attempts": "12" }, true],
    [{ "grpc-previous-rpc-attempts": "-1" }, undefined],
    [{ "grpc-previous-rpc-attempts": "many" }, undefined],
    [{ "x-retry-chain": "1" }, true],
    [{ "x-retry-chain": "0" }, undefined],
    [{ "x-retry-chain": "1", "grpc-previous-rpc-attempts": "0" }, true],
  ] as const) {
    assert.equal(readContextHeaders(new Headers(headers)).isRetried, isRetried, JSON.stringify(headers));
  }
});

test("what a retried call causes says so to the next service, and nothing else does", () => {
  const call: CallContext = { method: "a.B/C", requestId: "r", trace: startTrace(), signal: AbortSignal.abort() };
  const first = new Headers();
  writeContextHeaders(first, call, "user-service");
  assert.equal(first.has("x-retry-chain"), false);
  const retried = new Headers();
  writeContextHeaders(retried, { ...call, isRetried: true }, "user-service");
  assert.equal(retried.get("x-retry-chain"), "1");
  assert.equal(retried.has("grpc-previous-rpc-attempts"), false);
  assert.equal(readContextHeaders(retried).isRetried, true);
});

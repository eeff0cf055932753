import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { DomainError, markPeerError } from "#shared/errors";
import { RejectedEventError } from "../errors.ts";
import { createDecide, type DispositionOptions } from "./disposition.ts";
import type { Received } from "./handling.ts";

const failure = new Error("no");
const peerAway = markPeerError(new ConnectError("away", Code.Unavailable), "book-service");

function decider(changes: Partial<DispositionOptions> = {}) {
  return createDecide({
    delaysMs: [10, 20],
    peerOutageMs: 100,
    ignoreUnknown: false,
    handledRoutingKeys: new Set(["order.placed"]),
    ...changes,
  });
}

function received(attempt = 1, postponed = 0, unknownRounds = 0, routingKey = "order.gone"): Received {
  const envelope = {
    id: "1",
    type: "t",
    source: "s",
    timeMs: 0,
    key: "",
    routingKey,
    mustBeRouted: true,
    contentType: "",
    body: new Uint8Array(),
    context: {},
  };
  return { envelope, attempt, postponed, unknownRounds };
}

test("an attempt that fails is followed by the next, after its delay, and the last one by a dead letter", () => {
  const decide = decider();
  const failed = { kind: "failed", error: failure } as const;
  const retry = { kind: "retry", postponed: 3, unknownRounds: 0, costsAttempt: true, error: failure };
  assert.deepEqual(decide(received(1, 3), failed), { ...retry, delayMs: 10, attempt: 2 });
  assert.deepEqual(decide(received(2, 3), failed), { ...retry, delayMs: 20, attempt: 3 });
  assert.deepEqual(decide(received(3, 3), failed), {
    kind: "dead-letter",
    reason: "attempts_exhausted",
    error: failure,
  });
});

test("what another's outage looks like costs an attempt, unless a peer of the handler was called", () => {
  const decide = decider();
  const looksLikeOutage = new DomainError("unavailable", "DATABASE_UNAVAILABLE", "away");
  const first = decide(received(), { kind: "failed", error: looksLikeOutage });
  assert.ok(first.kind === "retry" && first.costsAttempt);
  const away = decide(received(), { kind: "failed", error: peerAway });
  assert.ok(away.kind === "retry" && !away.costsAttempt);
  assert.deepEqual([away.attempt, away.postponed, away.delayMs], [1, 1, 10]);
});

test("a peer's outage costs no attempt until the waits are longer than it may take, and none without delays", () => {
  const decide = decider();
  // 10 + 20 + 20 + 20 + 20 ms.
  const within = decide(received(1, 4), { kind: "failed", error: peerAway });
  assert.ok(within.kind === "retry" && !within.costsAttempt);
  const beyond = decide(received(1, 5), { kind: "failed", error: peerAway });
  assert.ok(beyond.kind === "retry" && beyond.costsAttempt);
  const never = decider({ peerOutageMs: 0 })(received(), { kind: "failed", error: peerAway });
  assert.ok(never.kind === "retry" && never.costsAttempt);
  assert.equal(decider({ delaysMs: [] })(received(), { kind: "failed", error: peerAway }).kind, "dead-letter");
});

test("an unknown type goes round once for each delay, and is a dead letter then", () => {
  const decide = decider();
  const unknown = { kind: "unknown", type: "t" } as const;
  const first = decide(received(), unknown);
  assert.ok(first.kind === "retry" && first.unknownRounds === 1 && first.attempt === 1 && first.postponed === 0);
  // What a peer's outage has cost before does not count.
  assert.equal(decide(received(1, 9, 1), unknown).kind, "retry");
  const last = decide(received(1, 0, 2), unknown);
  assert.ok(last.kind === "dead-letter" && last.reason === "unknown_type");
});

test("an unknown type is ignored only if that is configured, no handler's key matches, and no version has had it", () => {
  const unknown = { kind: "unknown", type: "t" } as const;
  const decide = decider({ ignoreUnknown: true });
  assert.deepEqual(decide(received(), unknown), { kind: "ignore", type: "t" });
  assert.equal(decide(received(1, 0, 1), unknown).kind, "retry");
  assert.equal(decide(received(1, 0, 0, "order.placed"), unknown).kind, "retry");
});

test("a rejected or unreadable event is a dead letter at once; an outage of the guard gives the message back", () => {
  const decide = decider();
  const rejected = decide(received(), { kind: "failed", error: new RejectedEventError("no") });
  assert.ok(rejected.kind === "dead-letter" && rejected.reason === "rejected");
  const unreadable = decide(received(), { kind: "undecodable", error: failure });
  assert.ok(unreadable.kind === "dead-letter" && unreadable.reason === "undecodable");
  assert.equal(decide(received(), { kind: "unavailable", error: failure }).kind, "give-back");
  assert.deepEqual(decide(received(), { kind: "done" }), { kind: "acknowledge", as: "handled" });
  assert.deepEqual(decide(received(), { kind: "duplicate" }), { kind: "acknowledge", as: "duplicate" });
});

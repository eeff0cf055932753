import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  DomainError,
  fromConnectError,
  isPeerUnavailable,
  markPeerError,
  peerFailure,
  toConnectError,
} from "./index.ts";

test("a peer that cannot be reached is recognised in each form of its error", () => {
  const away = markPeerError(new ConnectError("away", Code.Unavailable), "book-service");
  assert.equal(isPeerUnavailable(away), true);
  assert.equal(isPeerUnavailable(peerFailure("book-service", away)), true);
  assert.equal(isPeerUnavailable(new Error("no price", { cause: away })), true);
  const detailed = toConnectError(new DomainError("unavailable", "DATABASE_UNAVAILABLE", "away"), "book-service");
  markPeerError(detailed, "book-service");
  assert.equal(isPeerUnavailable(fromConnectError(detailed)), true);
});

test("a failure that is no peer's outage is not taken for one", () => {
  assert.equal(isPeerUnavailable(new ConnectError("away", Code.Unavailable)), false);
  assert.equal(isPeerUnavailable(markPeerError(new ConnectError("no", Code.NotFound), "book-service")), false);
  assert.equal(isPeerUnavailable(new DomainError("unavailable", "DATABASE_UNAVAILABLE", "away")), false);
  assert.equal(isPeerUnavailable("away"), false);
  const circular = new Error("circular");
  circular.cause = circular;
  assert.equal(isPeerUnavailable(circular), false);
});

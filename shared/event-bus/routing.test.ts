import assert from "node:assert/strict";
import { test } from "node:test";
import { takes } from "./routing.ts";

const topics: readonly [pattern: string, key: string, taken: boolean][] = [
  ["user.#", "user.created", true],
  ["user.#", "user", true],
  ["user.#", "user.a.b.c", true],
  ["user.#", "users.created", false],
  ["#", "anything.at.all", true],
  ["#", "", true],
  ["user.*", "user.created", true],
  ["user.*", "user", false],
  ["user.*", "user.a.b", false],
  ["book.stock.*", "book.stock.reserved", true],
  ["*.created", "user.created", true],
  ["#.created", "a.b.created", true],
  ["#.created", "created", true],
  ["a.#.b.#.c", "a.b.x.b.c", true],
  ["a.#.b", "a.c", false],
  ["order.placed", "order.placed", true],
  ["order.placed", "order.placedx", false],
];

test("a topic binding takes what RabbitMQ's does", () => {
  for (const [pattern, key, taken] of topics) assert.equal(takes("topic", pattern, key), taken, `${pattern} ~ ${key}`);
});

test("a direct binding takes its key alone; fanout and headers without arguments take all", () => {
  assert.equal(takes("direct", "user.#", "user.created"), false);
  assert.equal(takes("direct", "user.created", "user.created"), true);
  assert.equal(takes("fanout", "", "user.created"), true);
  assert.equal(takes("headers", "", "user.created"), true);
});

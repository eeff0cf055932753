import assert from "node:assert/strict";
import { test } from "node:test";
import { jsonLines } from "./json-lines.ts";

async function valuesOf(chunks: readonly string[], maxBytes = 100): Promise<unknown[]> {
  const bytes = async function* () {
    for (const chunk of chunks) yield Buffer.from(chunk, "latin1");
  };
  return Array.fromAsync(jsonLines(bytes(), maxBytes));
}

test("a value is a line, however many come in a chunk and however a line is cut", async () => {
  assert.deepEqual(await valuesOf(["1\n2\n[3", ",", "4]", "\n", '"\xc3', '\xbc"\n']), [1, 2, [3, 4], "ü"]);
});

test("empty lines are nothing, and so is a line without its end", async () => {
  assert.deepEqual(await valuesOf(["\n \r\n1\r\n", "[2,"]), [1]);
});

test("a line that is too long is an error before it is complete", async () => {
  await assert.rejects(valuesOf(["1\n", "2".repeat(60), "2".repeat(60)]), {
    message: "a line is longer than 100 bytes",
  });
  assert.deepEqual(await valuesOf([`"${"2".repeat(98)}"\n`.repeat(3)]).then(({ length }) => length), 3);
});

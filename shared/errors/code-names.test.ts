import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { codeFromString, codeToString } from "@connectrpc/connect/protocol-connect";
import { codeOfName, nameOfCode } from "./index.ts";

test("codes have the names that Connect gives them", () => {
  const codes = Object.values(Code).filter((code) => typeof code === "number");
  assert.equal(codes.length, 16);
  for (const code of codes) {
    assert.equal(nameOfCode(code), codeToString(code));
    assert.equal(codeOfName(nameOfCode(code)), codeFromString(codeToString(code)));
  }
  assert.equal(codeOfName("NOT_FOUND"), undefined);
});

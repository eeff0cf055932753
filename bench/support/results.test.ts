import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { rounded, toText } from "./results.ts";

describe("results", () => {
  test("stand on a line each, and on several when they are too long for the formatter", () => {
    const long = "x".repeat(120);
    assert.deepEqual(
      toText({ cores: 2 }, [
        { name: "a", value: 1 },
        { name: long, value: 2 },
      ]).split("\n"),
      [
        "{",
        '  "machine": { "cores": 2 },',
        '  "results": [',
        '    { "name": "a", "value": 1 },',
        "    {",
        `      "name": "${long}",`,
        '      "value": 2',
        "    }",
        "  ]",
        "}",
        "",
      ],
    );
    assert.deepEqual(JSON.parse(toText({ long }, [])), { machine: { long }, results: [] });
  });

  test("have three digits that count", () => {
    assert.deepEqual([1234.5, 123.45, 12.345, 0.012345, -123.6].map(rounded), [1235, 123, 12.3, 0.0123, -124]);
  });
});

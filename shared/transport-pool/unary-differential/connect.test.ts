import assert from "node:assert/strict";
import { test } from "node:test";
import { startPair } from "./compare.ts";
import { connectAnswers } from "./connect-answers.ts";
import { book, headers } from "./messages.ts";
import type { Step } from "./scripted-server.ts";

const PROTO = "application/proto";

const answers: Record<string, readonly Step[]> = {
  ...connectAnswers,
  "GOAWAY in the middle, then the rest": [
    { headers: headers(200, PROTO) },
    { goaway: 0 },
    "flush",
    { data: book, isEnd: true },
  ],
};
for (let code = 0; code <= 14; code++) {
  answers[`reset with ${code} before an answer`] = [{ reset: code }];
  answers[`reset with ${code} in the body`] = [
    { headers: headers(200, PROTO) },
    { data: book },
    "flush",
    { reset: code },
  ];
}

for (const [name, script] of Object.entries(answers)) {
  test(`Connect: ${name} means what it means to stock Connect`, async (t) => {
    const pair = await startPair(t, "connect");
    const stock = await pair.stock(script);
    assert.deepEqual(await pair.own(script), stock);
  });
}

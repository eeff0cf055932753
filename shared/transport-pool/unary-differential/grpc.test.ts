import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { startPair } from "./compare.ts";
import {
  badUtf8,
  book,
  br,
  detailsBin,
  envelope,
  grpcAnswer,
  grpcHeaders,
  gzip,
  headers,
  hugeBook,
  largeBook,
  noMessage,
} from "./messages.ts";
import type { Step } from "./scripted-server.ts";

const good = grpcAnswer(envelope(book));
const ok = [["grpc-status", "0"]] as const;

const answers: Record<string, readonly Step[]> = {
  "a good answer": good,
  "a good answer, frame by frame": good.flatMap((step) => [step, "flush" as const]),
  "a good answer, byte by byte": [
    { headers: grpcHeaders() },
    ...[...envelope(book)].flatMap((byte) => [{ data: Uint8Array.of(byte) }, "flush" as const]),
    { headers: ok, isEnd: true },
  ],
  "an empty message": grpcAnswer(envelope(new Uint8Array())),
  "empty DATA frames around the message": [
    { headers: grpcHeaders() },
    { data: new Uint8Array() },
    { data: envelope(book) },
    { data: new Uint8Array() },
    { headers: ok, isEnd: true },
  ],
  "a large message": grpcAnswer(envelope(largeBook)),
  "metadata in headers and trailers, twice and binary": grpcAnswer(
    envelope(book),
    [...ok, ["x-t", "1"], ["x-t", "2"], ["x-t-bin", "AAE"], ["grpc-message", "fine"]],
    [
      ["x-h", "1"],
      ["x-h", "2"],
      ["x-h-bin", "AAEC"],
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2"],
      ["date", "now"],
    ],
  ),
  "no trailers": [{ headers: grpcHeaders() }, { data: envelope(book), isEnd: true }],
  "trailers without a status": grpcAnswer(envelope(book), [["x-t", "1"]]),
  "the status in the headers of an answer with a message": grpcAnswer(envelope(book), [["x-t", "1"]], ok),
  "the status in headers and trailers": grpcAnswer(envelope(book), ok, ok),
  "an error status in the headers of an answer with a message": grpcAnswer(envelope(book), ok, [["grpc-status", "5"]]),
  "an error status in headers and trailers": grpcAnswer(
    new Uint8Array(),
    [
      ["grpc-status", "6"],
      ["x-t", "1"],
    ],
    [
      ["grpc-status", "5"],
      ["x-h", "1"],
    ],
  ),
  "trailers only, with a good status": [{ headers: grpcHeaders(...ok), isEnd: true }],
  "trailers only, without a status": [{ headers: grpcHeaders(), isEnd: true }],
  "no message, and a good status": grpcAnswer(new Uint8Array()),
  "no message, and no status": grpcAnswer(new Uint8Array(), [["x-t", "1"]]),
  "two messages": grpcAnswer(Buffer.concat([envelope(book), envelope(book)])),
  "two messages, in two packets": [
    { headers: grpcHeaders() },
    { data: envelope(book) },
    "flush",
    { data: envelope(book) },
    "flush",
    { headers: ok, isEnd: true },
  ],
  "two messages without an end": [
    { headers: grpcHeaders() },
    { data: Buffer.concat([envelope(book), envelope(book)]) },
  ],
  "one that is no message": grpcAnswer(envelope(noMessage)),
  "bad UTF-8": grpcAnswer(envelope(badUtf8)),
  "a message with an error status": grpcAnswer(envelope(book), [
    ["grpc-status", "9"],
    ["grpc-message", "no"],
  ]),
  "no message but an error status": grpcAnswer(
    new Uint8Array(),
    [
      ["grpc-status", "9"],
      ["x-t", "1"],
    ],
    [["x-h", "1"]],
  ),
  "a cut off message": grpcAnswer(envelope(book).subarray(0, -3)),
  "a cut off prefix": grpcAnswer(envelope(book).subarray(0, 3)),
  "a message that is said to be too large": [{ headers: grpcHeaders() }, { data: envelope(book, 0, 5_000) }],
  "a message that is too large": grpcAnswer(envelope(hugeBook)),
  "a gzip message": grpcAnswer(envelope(gzip(book), 1), ok, [["grpc-encoding", "gzip"]]),
  "a brotli message": grpcAnswer(envelope(br(book), 1), ok, [["grpc-encoding", "br"]]),
  "a message that is not compressed though it may be": grpcAnswer(envelope(book), ok, [["grpc-encoding", "gzip"]]),
  "the encoding identity": grpcAnswer(envelope(book), ok, [["grpc-encoding", "identity"]]),
  "the encoding IDENTITY": grpcAnswer(envelope(book), ok, [["grpc-encoding", "IDENTITY"]]),
  "an encoding that nobody knows": grpcAnswer(envelope(book, 1), ok, [["grpc-encoding", "zip"]]),
  "an encoding in capitals": grpcAnswer(envelope(gzip(book), 1), ok, [["grpc-encoding", "GZIP"]]),
  "a compressed message without an encoding": grpcAnswer(envelope(gzip(book), 1)),
  "a compressed message that is empty": grpcAnswer(envelope(new Uint8Array(), 1), ok, [["grpc-encoding", "gzip"]]),
  "a compressed message that is no gzip": grpcAnswer(envelope(book, 1), ok, [["grpc-encoding", "gzip"]]),
  "a compressed message that is too large": grpcAnswer(envelope(gzip(hugeBook), 1), ok, [["grpc-encoding", "gzip"]]),
  "two compressed messages": grpcAnswer(Buffer.concat([envelope(gzip(book), 1), envelope(gzip(book), 1)]), ok, [
    ["grpc-encoding", "gzip"],
  ]),
  "flags that nobody knows": grpcAnswer(envelope(book, 0x82)),
  "a body after trailers-only headers": grpcAnswer(envelope(book), ok, [["grpc-status", "0"]]),
  "details that say OK": grpcAnswer(envelope(book), [...ok, ["grpc-status-details-bin", detailsBin(0 as Code)]]),
  "details in the headers": grpcAnswer(envelope(book), ok, [["grpc-status-details-bin", detailsBin(Code.NotFound)]]),
  "details of another code": grpcAnswer(new Uint8Array(), [
    ["grpc-status", "5"],
    ["grpc-status-details-bin", detailsBin(Code.Internal)],
  ]),
  "a message that is percent-encoded": grpcAnswer(new Uint8Array(), [
    ["grpc-status", "5"],
    ["grpc-message", "%E2%82%AC"],
  ]),
  "closed in the middle of the body": [
    { headers: grpcHeaders() },
    { data: envelope(book).subarray(0, 7) },
    "flush",
    "close",
  ],
  "closed after the body": [{ headers: grpcHeaders() }, { data: envelope(book) }, "flush", "close"],
  "closed before an answer": ["close"],
  "a good answer, then closed": [...good, "flush", "close"],
  "GOAWAY in the middle, then the rest": [
    { headers: grpcHeaders() },
    { goaway: 0 },
    "flush",
    { data: envelope(book) },
    { headers: ok, isEnd: true },
  ],
  "GOAWAY with an error": [{ headers: grpcHeaders() }, "flush", { goaway: 2 }, "flush"],
  "GOAWAY that has not seen the call": [{ goaway: 0, lastStream: 0 }, "flush", "close"],
};

for (let status = 0; status <= 17; status++) {
  answers[`grpc-status ${status}`] = grpcAnswer(new Uint8Array(), [
    ["grpc-status", `${status}`],
    ["grpc-message", "m"],
    ["x-t", "1"],
  ]);
  if (status < 17)
    answers[`grpc-status ${status} with details`] = grpcAnswer(new Uint8Array(), [
      ["grpc-status", `${status}`],
      ["grpc-message", "m"],
      ["grpc-status-details-bin", detailsBin(status as Code)],
      ["x-t-bin", "AAE="],
      ["x-t", "1"],
      ["x-t", "2"],
    ]);
  answers[`trailers only with grpc-status ${status}`] = [
    { headers: grpcHeaders(["grpc-status", `${status}`], ["grpc-message", "m"], ["x-h", "1"]), isEnd: true },
  ];
}
for (const status of ["", "00", "0.0", "-1", "x", "99", "5x", " 5", "Code", "NotFound", "4294967296"]) {
  answers[`grpc-status ${JSON.stringify(status)}`] = grpcAnswer(envelope(book), [["grpc-status", status]]);
}
for (const status of [204, 304, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504]) {
  answers[`HTTP ${status} without a body`] = [{ headers: headers(status, undefined, ["x-h", "1"]), isEnd: true }];
  answers[`HTTP ${status} with a body`] = [
    { headers: headers(status, "text/html", ["x-h", "1"]) },
    { data: Buffer.from("<p>no</p>"), isEnd: status !== 503 },
  ];
}
for (const type of [
  undefined,
  "",
  "text/plain",
  "application/json",
  "application/grpc",
  "application/grpc+json",
  "application/grpc-web",
  "APPLICATION/GRPC+PROTO",
  "application/grpc; charset=utf-8",
]) {
  answers[`content type ${type}`] = [
    { headers: headers(200, type) },
    { data: envelope(book) },
    { headers: ok, isEnd: true },
  ];
}
for (let code = 0; code <= 14; code++) {
  answers[`reset with ${code} before an answer`] = [{ reset: code }];
  answers[`reset with ${code} after the headers`] = [{ headers: grpcHeaders() }, "flush", { reset: code }];
  answers[`reset with ${code} after the message`] = [
    { headers: grpcHeaders() },
    { data: envelope(book) },
    "flush",
    { reset: code },
  ];
}

for (const [name, script] of Object.entries(answers)) {
  test(`gRPC: ${name} means what it means to stock Connect`, async (t) => {
    const pair = await startPair(t, "grpc");
    const stock = await pair.stock(script);
    assert.deepEqual(await pair.own(script), stock);
  });
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import {
  badUtf8,
  br,
  detailsBin,
  envelope,
  grpcAnswer,
  grpcHeaders,
  gzip,
  headers,
  noMessage,
} from "../unary-differential/messages.ts";
import type { Step } from "../unary-differential/scripted-server.ts";
import { startPair } from "./compare.ts";
import { hugeOrder, largeOrder, order, orders } from "./orders.ts";

const ok = [["grpc-status", "0"]] as const;
const end = { headers: ok, isEnd: true };
const one = envelope(order("one"));
const gzipped = envelope(gzip(order("zipped")), 1);
const codes = Object.values(Code).filter((code) => typeof code === "number");

const answers: Record<string, readonly Step[]> = {
  "no message": grpcAnswer(new Uint8Array()),
  "one message": grpcAnswer(one),
  "many messages in one frame": grpcAnswer(orders(200)),
  "many messages, each in a frame": [
    { headers: grpcHeaders() },
    ...Array.from({ length: 50 }, () => ({ data: orders(1) })),
    end,
  ],
  "many messages, each in a packet": [
    { headers: grpcHeaders() },
    ...Array.from({ length: 20 }, () => [{ data: orders(1) }, "flush" as const]).flat(),
    end,
  ],
  "byte by byte": [
    { headers: grpcHeaders() },
    "flush",
    ...[...orders(3)].flatMap((byte) => [{ data: Uint8Array.of(byte) }, "flush" as const]),
    end,
  ],
  "messages cut anywhere": [
    { headers: grpcHeaders() },
    { data: orders(5).subarray(0, 13) },
    "flush",
    { data: orders(5).subarray(13, 31) },
    "flush",
    { data: orders(5).subarray(31) },
    end,
  ],
  "empty messages": grpcAnswer(Buffer.alloc(15)),
  "empty DATA frames": [
    { headers: grpcHeaders() },
    { data: new Uint8Array() },
    { data: one },
    { data: new Uint8Array() },
    end,
  ],
  "large messages over several frames": [
    { headers: grpcHeaders() },
    ...Array.from({ length: 10 }, () => [
      { data: envelope(largeOrder).subarray(0, 500) },
      { data: envelope(largeOrder).subarray(500) },
    ]).flat(),
    end,
  ],
  "metadata in headers and trailers, twice and binary": grpcAnswer(
    orders(3),
    [...ok, ["x-t", "1"], ["x-t", "2"], ["x-t-bin", "AAE"], ["grpc-message", "fine"]],
    [
      ["x-h", "1"],
      ["x-h", "2"],
      ["x-h-bin", "AAEC"],
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2"],
    ],
  ),
  "cookies in the trailers": grpcAnswer(one, [...ok, ["set-cookie", "a=1"], ["set-cookie", "b=2"]]),
  "no trailers": [{ headers: grpcHeaders() }, { data: one, isEnd: true }],
  "trailers without a status": grpcAnswer(one, [["x-t", "1"]]),
  "the status in the headers": grpcAnswer(one, [["x-t", "1"]], ok),
  "a good status in the headers, a bad one in the trailers": grpcAnswer(one, [["grpc-status", "5"]], ok),
  "an error status in the headers": grpcAnswer(one, ok, [["grpc-status", "5"]]),
  "trailers only, with a good status": [{ headers: grpcHeaders(...ok), isEnd: true }],
  "trailers only, without a status": [{ headers: grpcHeaders(), isEnd: true }],
  "a status that is no number": grpcAnswer(one, [["grpc-status", "x"]]),
  "a status that nobody knows": grpcAnswer(one, [["grpc-status", "99"]]),
  "details of an error": grpcAnswer(one, [
    ["grpc-status", "5"],
    ["grpc-status-details-bin", detailsBin(Code.NotFound)],
  ]),
  "details of an error beside a good status": grpcAnswer(one, [
    ...ok,
    ["grpc-status-details-bin", detailsBin(Code.NotFound)],
  ]),
  "a message, and one that is no message": grpcAnswer(Buffer.concat([one, envelope(noMessage), one])),
  "one that is no message, without an end": [{ headers: grpcHeaders() }, { data: envelope(noMessage) }],
  "bad UTF-8": grpcAnswer(Buffer.concat([one, envelope(badUtf8)])),
  "a cut off message": grpcAnswer(orders(3).subarray(0, -3)),
  "a cut off prefix": grpcAnswer(Buffer.concat([one, one.subarray(0, 3)])),
  "a message that is too large, in a packet of its own": [
    { headers: grpcHeaders() },
    { data: one },
    "flush",
    { data: envelope(hugeOrder) },
    end,
  ],
  "a message that is said to be too large": [{ headers: grpcHeaders() }, { data: envelope(order("a"), 0, 5_000) }],
  "gzip messages": grpcAnswer(Buffer.concat([gzipped, gzipped]), ok, [["grpc-encoding", "gzip"]]),
  "gzip messages among others": grpcAnswer(Buffer.concat([one, gzipped, one]), ok, [["grpc-encoding", "gzip"]]),
  "a brotli message": grpcAnswer(envelope(br(order("a")), 1), ok, [["grpc-encoding", "br"]]),
  "messages that are not compressed though they may be": grpcAnswer(orders(3), ok, [["grpc-encoding", "gzip"]]),
  "the encoding identity": grpcAnswer(one, ok, [["grpc-encoding", "identity"]]),
  "an encoding that nobody knows": grpcAnswer(one, ok, [["grpc-encoding", "zip"]]),
  "a compressed message without an encoding": grpcAnswer(Buffer.concat([one, gzipped])),
  "a compressed message and an error status": grpcAnswer(gzipped, [["grpc-status", "9"]], [["grpc-encoding", "gzip"]]),
  "another content type": [{ headers: headers(200, "text/html") }, { data: one, isEnd: true }],
  "no content type": [{ headers: headers(200, undefined) }, { data: one, isEnd: true }],
  "the content type without a codec": [{ headers: headers(200, "application/grpc") }, { data: one }, end],
  "an HTTP error": [{ headers: headers(503, "text/plain") }, { data: Buffer.from("busy"), isEnd: true }],
  "an HTTP error of gRPC": [{ headers: headers(404, "application/grpc+proto", ...ok) }, { data: one, isEnd: true }],
  "a reset before the headers": [{ reset: 2 }],
  "a refusal": [{ reset: 7 }],
  "a reset after the headers": [{ headers: grpcHeaders() }, "flush", { reset: 2 }],
  "a cancellation after a message": [{ headers: grpcHeaders() }, { data: one }, "flush", { reset: 8 }],
  "a reset without an error after a message": [{ headers: grpcHeaders() }, { data: one }, "flush", { reset: 0 }],
  "a closed connection after a message": [{ headers: grpcHeaders() }, { data: one }, "flush", "close"],
  "a closed connection in a message": [{ headers: grpcHeaders() }, { data: one.subarray(0, 7) }, "flush", "close"],
  "a GOAWAY that leaves the stream": [{ headers: grpcHeaders() }, { goaway: 0 }, "flush", { data: one }, end],
  "a GOAWAY with an error": [{ headers: grpcHeaders() }, { data: one }, "flush", { goaway: 2 }],
};
for (const flags of [2, 3, 0x80, 0x81]) {
  answers[`flags of ${flags}`] = grpcAnswer(Buffer.concat([one, envelope(order("a"), flags)]));
}
for (const code of codes) {
  const trailers = [
    ["grpc-status", `${code}`],
    ["grpc-message", "no%3A %C3%BC"],
    ["x-t", "1"],
  ] as const;
  answers[`code ${code} before a message`] = grpcAnswer(new Uint8Array(), trailers);
  answers[`code ${code} after messages`] = grpcAnswer(orders(3), trailers);
  answers[`code ${code} in place of headers`] = [{ headers: grpcHeaders(...trailers), isEnd: true }];
}

for (const [name, script] of Object.entries(answers)) {
  test(`an answer means what it means to stock Connect: ${name}`, async (t) => {
    const pair = await startPair(t);
    const stock = await pair.stock(script);
    assert.deepEqual(await pair.own(script), stock);
  });
}

for (const ids of [[], ["a", "b"], ["a", "b", "c"]]) {
  test(`a request of ${ids.length} messages is for the peer to refuse, as with stock Connect`, async (t) => {
    const pair = await startPair(t);
    const script = grpcAnswer(new Uint8Array(), [["grpc-status", "12"]]);
    const options = () => ({ ids });
    const { told: _, ...stock } = await pair.stock(script, options);
    const { told: __, ...own } = await pair.own(script, options);
    assert.deepEqual(own, stock);
  });
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "#shared/testing";
import { chooser } from "../policies/test-support.ts";
import { badUtf8, br, detailsBin, envelope, gzip, headers, noMessage } from "../unary-differential/messages.ts";
import type { Fields, Step } from "../unary-differential/scripted-server.ts";
import { startPair } from "./compare.ts";
import { hugeOrder, largeOrder, order } from "./orders.ts";

const SEEDS = 6;
const ANSWERS = 50;

type Choose = ReturnType<typeof chooser>;

function body(choose: Choose): Uint8Array {
  const small = order(`o-${choose.int(0, 99)}`);
  if (choose.chance(0.85)) return choose.of<Uint8Array>(small, small, largeOrder, new Uint8Array());
  return choose.of<Uint8Array>(hugeOrder, badUtf8, noMessage, gzip(small), br(small));
}

/** A little of it is changed now and then. */
function mutated(choose: Choose, bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  if (choose.chance(0.15) && copy.length > 0) copy[choose.int(0, copy.length - 1)] = choose.int(0, 255);
  if (choose.chance(0.1)) return copy.subarray(0, choose.int(0, copy.length));
  if (choose.chance(0.1)) return Buffer.concat([copy, Buffer.alloc(choose.int(1, 7), choose.int(0, 255))]);
  return copy;
}

/**
 * In chunks, some of them in packets of their own. Not where a thread decompresses: chance decides whether that fails
 * before the trailers of a later packet are there.
 */
function chunked(choose: Choose, bytes: Uint8Array, isCompressed: boolean): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at < bytes.length; ) {
    const next = choose.chance(0.3) ? bytes.length : choose.int(at, Math.min(at + 60, bytes.length));
    steps.push({ data: bytes.subarray(at, next) });
    if (choose.chance(0.3) && steps.length < 12 && !isCompressed) steps.push("flush");
    at = steps.length > 24 ? bytes.length : next;
  }
  return steps;
}

function status(choose: Choose): Fields {
  const code = choose.int(0, 18);
  return [
    ...(choose.chance(0.85) ? [["grpc-status", choose.chance(0.6) ? "0" : `${code}`] as const] : []),
    ...(choose.chance(0.2) ? [["grpc-message", choose.of("m", "%41", "%")] as const] : []),
    ...(choose.chance(0.15) ? [["grpc-status-details-bin", detailsBin(code)] as const] : []),
    ...(choose.chance(0.3) ? [["x-t", "1"] as const, ["x-t", "2"] as const] : []),
  ];
}

function scriptOf(choose: Choose): Step[] {
  const encoding = choose.chance(0.25) ? [["grpc-encoding", choose.of("gzip", "br", "identity", "zip")] as const] : [];
  const early = choose.chance(0.1) ? status(choose) : [];
  const type = choose.chance(0.9)
    ? "application/grpc+proto"
    : choose.of("application/grpc", "text/html", "application/json");
  const code = choose.chance(0.9) ? 200 : choose.of(204, 404, 503);
  const begin: Step = { headers: headers(code, type, ...encoding, ...early, ["x-h", "1"]) };
  if (choose.chance(0.05)) return [{ ...begin, isEnd: true }];
  const messages = Array.from({ length: choose.int(0, 12) }, () =>
    envelope(body(choose), choose.chance(0.9) ? 0 : choose.int(0, 3)),
  );
  return [
    begin,
    ...chunked(choose, mutated(choose, Buffer.concat(messages)), encoding.length > 0),
    ...ending(choose, { headers: status(choose), isEnd: true }, encoding.length > 0),
  ];
}

/**
 * Mostly the right one. What cuts an answer off is a packet of its own, and comes after nothing that takes a thread to
 * decompress: else chance decides what is seen first.
 */
function ending(choose: Choose, right: Step, isCompressed: boolean): Step[] {
  if (choose.chance(0.8) || isCompressed) return [right];
  return ["flush", choose.chance(0.5) ? { reset: choose.int(0, 14) } : "close"];
}

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`whatever a peer streams means what it means to stock Connect (seed ${seed})`, async (t) => {
    const choose = chooser(seededRandom(seed));
    const pair = await startPair(t);
    for (let round = 0; round < ANSWERS; round++) {
      const script = scriptOf(choose);
      const stock = await pair.stock(script);
      assert.deepEqual(await pair.own(script), stock, `answer ${round}: ${JSON.stringify(script)}`);
    }
  });
}

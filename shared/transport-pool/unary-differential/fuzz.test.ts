import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "#shared/testing";
import { chooser } from "../policies/test-support.ts";
import { type Protocol, startPair } from "./compare.ts";
import { badUtf8, book, br, detailsBin, envelope, gzip, headers, hugeBook, largeBook, noMessage } from "./messages.ts";
import type { Fields, Step } from "./scripted-server.ts";

const SEEDS = 6;
const ANSWERS = 50;

type Choose = ReturnType<typeof chooser>;

function body(choose: Choose): Uint8Array {
  return choose.of<Uint8Array>(
    book,
    book,
    book,
    largeBook,
    hugeBook,
    new Uint8Array(),
    badUtf8,
    noMessage,
    gzip(book),
    br(book),
  );
}

/** A little of it is changed now and then. */
function mutated(choose: Choose, bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  if (choose.chance(0.15) && copy.length > 0) copy[choose.int(0, copy.length - 1)] = choose.int(0, 255);
  if (choose.chance(0.1)) return copy.subarray(0, choose.int(0, copy.length));
  if (choose.chance(0.1)) return Buffer.concat([copy, Buffer.alloc(choose.int(1, 7), choose.int(0, 255))]);
  return copy;
}

/** In chunks, some of them in packets of their own. */
function chunked(choose: Choose, bytes: Uint8Array): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at < bytes.length; ) {
    const next = choose.chance(0.6) ? bytes.length : choose.int(at, Math.min(at + 8, bytes.length));
    steps.push({ data: bytes.subarray(at, next) });
    if (choose.chance(0.3) && steps.length < 12) steps.push("flush");
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

function grpcScript(choose: Choose): Step[] {
  const encoding = choose.chance(0.25) ? [["grpc-encoding", choose.of("gzip", "br", "identity", "zip")] as const] : [];
  const early = choose.chance(0.1) ? status(choose) : [];
  const type = choose.chance(0.9)
    ? "application/grpc+proto"
    : choose.of("application/grpc", "text/html", "application/json");
  const code = choose.chance(0.9) ? 200 : choose.of(204, 404, 503);
  const begin: Step = { headers: headers(code, type, ...encoding, ...early, ["x-h", "1"]) };
  if (choose.chance(0.05)) return [{ ...begin, isEnd: true }];
  const count = choose.chance(0.8) ? 1 : choose.int(0, 3);
  const messages = Array.from({ length: count }, () =>
    envelope(body(choose), choose.chance(0.7) ? 0 : choose.int(0, 3)),
  );
  return [
    begin,
    ...chunked(choose, mutated(choose, Buffer.concat(messages))),
    ...ending(choose, { headers: status(choose), isEnd: true }, encoding.length > 0),
  ];
}

function connectScript(choose: Choose): Step[] {
  const data = choose.chance(0.7) ? body(choose) : Buffer.from('{"code":"not_found","message":"m"}');
  const bytes = mutated(choose, data);
  const encoding = choose.chance(0.2)
    ? [["content-encoding", choose.of("gzip", "br", "identity", "zip")] as const]
    : [];
  const more = [
    ...encoding,
    ...(choose.chance(0.2) ? [["content-length", `${bytes.length + choose.of(0, 0, 0, 1, -1)}`] as const] : []),
    ...(choose.chance(0.3) ? [["trailer-x-t", "1"] as const, ["x-h", "1"] as const] : []),
  ];
  const type = choose.chance(0.7)
    ? "application/proto"
    : choose.of("application/json", "text/html", "application/grpc");
  const code = choose.chance(0.7) ? 200 : choose.of(204, 304, 404, 503);
  const begin = { headers: headers(code, type, ...more) };
  return [
    begin,
    ...chunked(choose, bytes),
    ...ending(choose, { data: new Uint8Array(), isEnd: true }, encoding.length > 0),
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

const scripts: Record<Protocol, (choose: Choose) => Step[]> = { grpc: grpcScript, connect: connectScript };

for (const protocol of ["grpc", "connect"] as const) {
  for (let seed = 1; seed <= SEEDS; seed++) {
    test(`${protocol}: whatever a peer sends means what it means to stock Connect (seed ${seed})`, async (t) => {
      const choose = chooser(seededRandom(seed));
      const pair = await startPair(t, protocol);
      for (let round = 0; round < ANSWERS; round++) {
        const script = scripts[protocol](choose);
        const stock = await pair.stock(script);
        assert.deepEqual(await pair.own(script), stock, `answer ${round}: ${JSON.stringify(script)}`);
      }
    });
  }
}

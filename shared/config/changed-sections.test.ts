import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { changedSections, duration, section } from "./index.ts";

const schema = section({
  server: section({ port: z.int(), hosts: z.array(z.string()).default([]) }),
  grpc_clients: section({ services: z.array(z.string()).default([]) }).prefault({}),
  watch_interval: duration("5s"),
  registration: section({ ttl: duration("10s") }).optional(),
});

const before = schema.parse({ server: { port: 1 } });

test("what differs is named as the YAML has it, be it changed, added or gone", () => {
  const after = schema.parse({
    server: { port: 1, hosts: ["a"] },
    grpc_clients: { services: ["a"] },
    watch_interval: "1s",
    registration: {},
  });
  const all = ["server", "grpc_clients", "watch_interval", "registration"];
  assert.deepEqual(changedSections(before, after).sort(), all.toSorted());
  assert.deepEqual(changedSections(after, before).sort(), all.toSorted());
});

test("what is excepted or the same, however written, has not changed", () => {
  const after = schema.parse({
    server: { hosts: [], port: 1 },
    grpc_clients: { services: ["a"] },
    watch_interval: "5000ms",
  });
  assert.deepEqual(changedSections(before, after, ["grpcClients"]), []);
});

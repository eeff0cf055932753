import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "kysely";
import { tableOf } from "#shared/database";
import { until } from "#shared/testing";
import { greet, isEmpty, openOn, outboxOn, scriptedBus } from "./test-support.ts";

test("what a slow transaction adds to a halted key is published before what is behind it", async (t) => {
  const database = await openOn("PostgreSQL", t);
  if (database === undefined) return;
  const { db } = database;
  const bus = scriptedBus();
  const outbox = outboxOn(t, database, bus, { batchSize: 2, lanes: 1 });
  for (let n = 1; n <= 6; n++) await greet(outbox, db, `n${n}`, { key: "k" });
  // As when n3 has been promoted, n4 to n6 wait behind it, and n1 and n2 are committed only now.
  await sql`
    with gone as (delete from ${tableOf(db, "outbox")} where id > 2 returning *)
    insert into ${tableOf(db, "outbox_deferred")} (id, shard, key, event_id, type, source, time, routing_key, must_be_routed,
      content_type, body, context, state, due)
    select id, shard, key, event_id, type, source, time, routing_key, must_be_routed, content_type, body, context,
      case id when 3 then 'failed' else 'behind' end, case id when 3 then now() + interval '1 second' end from gone`.execute(
    db,
  );
  outbox.start();
  await until("the outbox to be empty", isEmpty(outbox));
  assert.deepEqual(bus.names(), ["n1", "n2", "n3", "n4", "n5", "n6"]);
});

test("no event that waits before a failed one is left behind", async (t) => {
  const database = await openOn("PostgreSQL", t);
  if (database === undefined) return;
  const { db } = database;
  const bus = scriptedBus();
  const outbox = outboxOn(t, database, bus);
  for (let n = 1; n <= 6; n++) await greet(outbox, db, `n${n}`, { key: "k" });
  await sql`
    with gone as (delete from ${tableOf(db, "outbox")} returning *)
    insert into ${tableOf(db, "outbox_deferred")} (id, shard, key, event_id, type, source, time, routing_key, must_be_routed,
      content_type, body, context, state, due, attempts)
    select id, shard, key, event_id, type, source, time, routing_key, must_be_routed, content_type, body, context,
      case id when 4 then 'failed' else 'behind' end, case id when 4 then now() end, case id when 4 then 1 else 0 end
    from gone`.execute(db);
  outbox.start();
  await until("the outbox to be empty", isEmpty(outbox));
  assert.deepEqual(bus.names(), ["n4", "n1", "n2", "n3", "n5", "n6"]);
});

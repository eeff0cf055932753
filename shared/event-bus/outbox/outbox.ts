import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { type Kysely, type QueryExecutorProvider, sql, type Transaction } from "kysely";
import { afterCommit, requireTables } from "#shared/database";
import type { Logger } from "#shared/logging";
import type { EventBus, PublishOptions } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { createEnvelope, type EventEnvelope } from "../envelope.ts";
import { eventTypeOf } from "../event-type.ts";
import { createClaims } from "./claims.ts";
import { createOperations, type OutboxOperations } from "./operations.ts";
import { createRelay } from "./relay.ts";
import { shardOf } from "./shard.ts";
import { type OutboxContents, readContents } from "./state.ts";
import { outboxTables, queryOn } from "./tables.ts";

/** Events that are published if and only if the transaction that adds them is committed. */
export interface Outbox extends OutboxOperations {
  /**
   * Stores the event in the caller's transaction; the relay publishes it after the commit, at least once. Events with the
   * same key are published in the order in which they were added, when their transactions came one after the other, as
   * those do that change the same row.
   *
   * @param db the transaction; anything else commits at once
   * @throws TypeError when the message is not declared as an event or breaks the rules of its proto; RangeError when it or its key is too large
   */
  add<Tables, Schema extends DescMessage>(
    db: Kysely<Tables> | Transaction<Tables>,
    schema: Schema,
    message: MessageInitShape<Schema>,
    options?: AddOptions,
  ): Promise<void>;
  /** Starts the relay. */
  start(): void;
  /** Stops the relay: waits for confirmations up to 5 s, and leaves the rest to the next start. */
  stop(signal?: AbortSignal): Promise<void>;
  state(): Promise<OutboxState>;
}

export interface AddOptions extends PublishOptions {
  /** The event is published at this time, or soon after it. Its place among others of its key is not kept. Default: now. */
  readonly notBefore?: Date | undefined;
}

export interface OutboxState extends OutboxContents {
  /** Number of events that this process has published since its start. */
  readonly published: number;
  /** Number of attempts since the start that were returned or refused. */
  readonly failedAttempts: number;
}

export interface OutboxOptions {
  /** Of `createDatabase`, whose migrations include `outboxMigration`. */
  readonly db: QueryExecutorProvider;
  readonly bus: Pick<EventBus, "send">;
  readonly config: Pick<RabbitmqConfig, "encoding">;
  /** Name of the service that the events come from. */
  readonly source: string;
  readonly logger: Logger;
  /**
   * Number of claims at a time: while one waits for the database, others publish. Each holds a connection of the pool while
   * its events are published, and up to two more that publish slowly. Default 3.
   */
  readonly lanes?: number;
  /** Maximum number of events of one claim. Default 500. */
  readonly batchSize?: number;
  /** Time between two looks for events of other processes and for what has become due. Default 500 ms. */
  readonly pollMs?: number;
  /** Time after which a relay that has stalled or died loses its claims. Default 15,000 ms. */
  readonly leaseMs?: number;
}

interface EventColumns {
  shard: number;
  key: string;
  event_id: string;
  type: string;
  source: string;
  time: Date;
  routing_key: string;
  must_be_routed: boolean;
  content_type: string;
  body: Uint8Array;
  /** JSON; empty when there is none. */
  context: string;
}

interface OutboxTables {
  outbox: EventColumns;
  outbox_deferred: EventColumns & { state: "delayed"; due: Date };
}

/** @throws TypeError when `db` does not come from `createDatabase` */
export function createOutbox(options: OutboxOptions): Outbox {
  const { bus, config, source, logger } = options;
  const { lanes = 3, batchSize = 500, pollMs = 500, leaseMs = 15_000 } = options;
  requireTables(options.db, {
    names: ["outbox", "outbox_shards.first_id", "outbox_deferred"],
    hint: "add outboxMigration to the migrations, or outboxUpgrade when an earlier outboxMigration has been applied",
  });
  const claims = createClaims(options.db, logger);
  const relay = createRelay({ claims, bus, logger, lanes, batchSize, pollMs, leaseMs });
  const tables = outboxTables(options.db);
  const query = queryOn(options.db);

  return {
    async add(db, schema, message, { key, notBefore } = {}) {
      const envelope = createEnvelope(eventTypeOf(schema), message, { key, source, encoding: config.encoding });
      const columns = columnsOf(envelope);
      const writer = db as unknown as Kysely<OutboxTables>;
      if (notBefore === undefined) await writer.insertInto("outbox").values(columns).execute();
      else {
        // No earlier than now: the relay does not look for what is due in the past.
        const due = sql<Date>`greatest(${notBefore}::timestamptz, clock_timestamp())`;
        await writer
          .insertInto("outbox_deferred")
          .values({ ...columns, state: "delayed", due })
          .execute();
      }
      if (notBefore === undefined || notBefore.getTime() <= Date.now()) {
        await afterCommit(db as unknown as Kysely<unknown>, relay.nudge);
      }
    },
    start: relay.start,
    stop: (signal) => relay.stop(signal),
    async state() {
      return { ...(await readContents(query, tables, claims.marks)), ...relay.counts };
    },
    ...createOperations(options.db),
  };
}

function columnsOf(envelope: EventEnvelope): EventColumns {
  const { id, type, source, timeMs, key, routingKey, mustBeRouted, contentType, body, context } = envelope;
  return {
    shard: shardOf(key === "" ? id : key),
    key,
    event_id: id,
    type,
    source,
    time: new Date(timeMs),
    routing_key: routingKey,
    must_be_routed: mustBeRouted,
    content_type: contentType,
    body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
    context: Object.keys(context).length === 0 ? "" : JSON.stringify(context),
  };
}

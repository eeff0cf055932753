import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { Kysely, QueryExecutorProvider, Transaction } from "kysely";
import { afterCommit } from "#shared/database";
import type { Logger } from "#shared/logging";
import type { EventBus, PublishOptions } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { createEnvelope } from "../envelope.ts";
import { eventTypeOf } from "../event-type.ts";
import { createClaims } from "./claims.ts";
import { createRelay } from "./relay.ts";
import { shardOf } from "./shard.ts";

/** Events that are published if and only if the transaction that adds them is committed. */
export interface Outbox {
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
    options?: PublishOptions,
  ): Promise<void>;
  /** Begins to relay. */
  start(): void;
  /** Publishes no more: waits for confirmations up to 5 s, and leaves the rest to the next start. */
  stop(signal?: AbortSignal): Promise<void>;
  state(): Promise<OutboxState>;
}

export interface OutboxState {
  /** Events that wait, counted up to 10 000. */
  readonly pending: number;
  /** By this process, since its start. */
  readonly published: number;
  /** Attempts that were returned or refused. */
  readonly failed: number;
}

export interface OutboxOptions {
  /** A service's, whose schema has the tables of `outboxMigration`. */
  readonly db: QueryExecutorProvider;
  readonly bus: Pick<EventBus, "send">;
  readonly config: Pick<RabbitmqConfig, "encoding">;
  /** The service's name: where its events come from. */
  readonly source: string;
  readonly logger: Logger;
  /** Default 3: with one, the relay waits for the database and publishes in turns. */
  readonly lanes?: number;
  /** The most events of one claim. Default 500. */
  readonly batchSize?: number;
  /** Default 500 ms. */
  readonly pollMs?: number;
  /** Default 15 000 ms. */
  readonly leaseMs?: number;
}

interface OutboxTables {
  outbox: {
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
  };
}

export function createOutbox(options: OutboxOptions): Outbox {
  const { bus, config, source, logger } = options;
  const { lanes = 3, batchSize = 500, pollMs = 500, leaseMs = 15_000 } = options;
  const claims = createClaims(options.db);
  const relay = createRelay({ claims, bus, logger, lanes, batchSize, pollMs, leaseMs });

  return {
    async add(db, schema, message, { key } = {}) {
      const envelope = createEnvelope(eventTypeOf(schema), message, { key, source, encoding: config.encoding });
      const { id, type, timeMs, routingKey, mustBeRouted, contentType, body, context } = envelope;
      await (db as unknown as Kysely<OutboxTables>)
        .insertInto("outbox")
        .values({
          shard: shardOf(envelope.key === "" ? id : envelope.key),
          key: envelope.key,
          event_id: id,
          type,
          source,
          time: new Date(timeMs),
          routing_key: routingKey,
          must_be_routed: mustBeRouted,
          content_type: contentType,
          body: Buffer.from(body),
          context: Object.keys(context).length === 0 ? "" : JSON.stringify(context),
        })
        .execute();
      await afterCommit(db as unknown as Kysely<unknown>, relay.nudge);
    },
    start: relay.start,
    stop: (signal) => relay.stop(signal),
    async state() {
      return { pending: await claims.pending(), ...relay.counts };
    },
  };
}

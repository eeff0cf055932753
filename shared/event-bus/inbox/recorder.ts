import type { QueryExecutorProvider } from "kysely";
import { schemaOf } from "#shared/database";
import type { GuardedMessage } from "../bus.ts";
import { type PartitionStatements, readLayout, statementsFor } from "./partitions.ts";
import { forgetV1, recordV1 } from "./v1.ts";

/** A message with its key. */
export interface Keyed<M extends GuardedMessage> {
  readonly message: M;
  readonly key: string;
}

/** What one transaction has recorded. */
export interface Recorded {
  /** Keys that were not there before. */
  readonly fresh: Set<string>;
  /** Takes back messages of this transaction that are not handled in it. */
  forget(messages: readonly Keyed<GuardedMessage>[]): Promise<void>;
}

/** Records messages in the table of the present and, as long as it is there, in that of the first version. */
export interface Recorder {
  /** As the first statement of a transaction. Waits for a copy that is being handled in another transaction. */
  record(tx: QueryExecutorProvider, queue: string, messages: readonly Keyed<GuardedMessage>[]): Promise<Recorded>;
  /** Reads the layout again: a table was not there. */
  reset(): void;
}

/** A layout lasts for days; a few readings in a row are two replicas that take a step each. */
const MAX_READINGS = 5;

export function createRecorder(): Recorder {
  let statements: PartitionStatements | undefined;

  async function current(tx: QueryExecutorProvider): Promise<PartitionStatements> {
    statements ??= statementsFor(schemaOf(tx), await readLayout(tx));
    return statements;
  }

  async function recordKeys(tx: QueryExecutorProvider, keys: readonly string[]) {
    for (let readings = 0; readings <= MAX_READINGS; readings++) {
      const used = await current(tx);
      const fresh = await used.record(tx, keys);
      if (fresh !== undefined) return { used, fresh };
      // Not one that another transaction has read in the meantime.
      if (statements === used) statements = undefined;
    }
    throw new Error("the layout of the inbox's partitions changes all the time");
  }

  return {
    async record(tx, queue, messages) {
      const { layout } = await current(tx);
      const v1 = layout.v1
        ? await recordV1(
            tx,
            queue,
            messages.map(({ message }) => message),
          )
        : undefined;
      const { used, fresh } = await recordKeys(tx, [...new Set(messages.map(({ key }) => key))]);
      for (const { message, key } of messages) if (v1?.handled.has(message.id)) fresh.delete(key);
      return {
        fresh,
        async forget(messages) {
          await used.forget(
            tx,
            messages.map(({ key }) => key),
          );
          const ids = messages.map(({ message }) => message.id).filter((id) => v1?.stored.has(id));
          if (ids.length > 0) await forgetV1(tx, queue, ids);
        },
      };
    },
    reset() {
      statements = undefined;
    },
  };
}

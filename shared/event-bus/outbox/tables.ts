import { CompiledQuery, type QueryExecutorProvider } from "kysely";
import { schemaOf } from "#shared/database";

/** Runs one statement and returns its rows. */
export type Query = <Row = unknown>(text: string, parameters?: readonly unknown[]) => Promise<readonly Row[]>;

/** The outbox's tables with their schema, as plain SQL names them. */
export interface OutboxTableNames {
  readonly outbox: string;
  readonly deferred: string;
  readonly shards: string;
  readonly sequence: string;
}

export function outboxTables(db: QueryExecutorProvider): OutboxTableNames {
  const schema = `"${schemaOf(db)}"`;
  return {
    outbox: `${schema}.outbox`,
    deferred: `${schema}.outbox_deferred`,
    shards: `${schema}.outbox_shards`,
    sequence: `${schema}.outbox_id_seq`,
  };
}

/** Statements of `db` itself, each in a transaction of its own unless `db` is a transaction. */
export function queryOn(db: QueryExecutorProvider): Query {
  const executor = db.getExecutor();
  return async <Row>(text: string, parameters: readonly unknown[] = []) => {
    const { rows } = await executor.executeQuery<Row>(CompiledQuery.raw(text, [...parameters]));
    return rows;
  };
}

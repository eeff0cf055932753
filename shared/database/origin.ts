import { type QueryExecutorProvider, type RawBuilder, sql, WithSchemaPlugin } from "kysely";
import type { RequiredTables } from "./required-tables.ts";

/** How long the database lets a session work or wait. */
export interface DatabaseLimits extends TimeLimits {
  /** Maximum number of connections; Infinity on the embedded database, whose one session all share. */
  readonly poolSize: number;
}

export interface TimeLimits {
  /** Longest time for one statement, in ms; Infinity on the embedded database. */
  readonly statementTimeoutMs: number;
  /** Longest time between two statements of a transaction, in ms; Infinity on the embedded database. */
  readonly idleInTransactionTimeoutMs: number;
}

/** What belongs to all Kyselys and transactions of one Database. */
export interface Origin {
  readonly schema: string;
  /** The one session of an embedded database, the same object for all that share it. */
  readonly session?: object | undefined;
  readonly limits: DatabaseLimits;
  probe(): Promise<boolean>;
  requireTables(required: RequiredTables): void;
}

/** Names the schema in Kysely's builders, and hands the origin on to every Kysely and transaction that is derived. */
export class OriginPlugin extends WithSchemaPlugin {
  readonly origin: Origin;

  constructor(origin: Origin) {
    super(origin.schema);
    this.origin = origin;
  }
}

/** Name of the schema that belongs to `db`. @throws TypeError when `db` does not come from `createDatabase` */
export function schemaOf(db: QueryExecutorProvider): string {
  return originOf(db).schema;
}

/**
 * A table's name with its schema, quoted, for plain SQL: ``sql`select count(*) from ${tableOf(db, "books")}` ``. Plain SQL
 * that leaves the schema out works only as long as no connection pooler stands before the database.
 *
 * @throws TypeError when `db` does not come from `createDatabase`
 */
export function tableOf(db: QueryExecutorProvider, table: string): RawBuilder<unknown> {
  return sql.id(schemaOf(db), table);
}

/**
 * The session that all users of an embedded database share, as a key for what they coordinate in memory; undefined on
 * PostgreSQL.
 *
 * @throws TypeError when `db` does not come from `createDatabase`
 */
export function sharedSessionOf(db: QueryExecutorProvider): object | undefined {
  return originOf(db).session;
}

/** The limits of the database of `db`. @throws TypeError when `db` does not come from `createDatabase` */
export function limitsOf(db: QueryExecutorProvider): DatabaseLimits {
  return originOf(db).limits;
}

/**
 * Asks the database, on a session outside of every transaction, whether it answers and takes writes. Bounded by
 * `connect_timeout`. Never rejects: true also when all connections are at work, which proves no outage.
 *
 * @throws TypeError when `db` does not come from `createDatabase`
 */
export function probe(db: QueryExecutorProvider): Promise<boolean> {
  return originOf(db).probe();
}

/**
 * Makes the readiness component `database` depend on tables: while one is missing, it is not ready and says which one and
 * what to do. To be called when the user of the tables is made.
 *
 * @throws TypeError when `db` does not come from `createDatabase`
 */
export function requireTables(db: QueryExecutorProvider, required: RequiredTables): void {
  originOf(db).requireTables(required);
}

function originOf(db: QueryExecutorProvider): Origin {
  for (const plugin of db.getExecutor().plugins) if (plugin instanceof OriginPlugin) return plugin.origin;
  throw new TypeError("expected the db of a createDatabase, or a transaction of it");
}

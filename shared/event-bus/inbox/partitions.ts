import { CompiledQuery, type QueryExecutorProvider, sql } from "kysely";
import { schemaOf, tableOf } from "#shared/database";

/**
 * Partitions of `inbox_events`, and where new keys go. A partition is a child table with a primary key of its own, which
 * holds the keys of a quarter of the window; expiry drops the table. Declarative partitioning would need a column for the
 * time in each row and in each primary key, 12 bytes more for each event.
 *
 * A key must be found in every partition, also by a copy that is handled at the same moment in another transaction. So a
 * new partition is opened in two steps (upkeep.ts). First keys go to both the old and the new one. Only when no
 * transaction is left that writes to the old one alone do they go to the new one alone. Two transactions at the same time
 * always have one partition in common, whose primary key makes the second wait for the first.
 *
 * A statement that records keys is made for one layout, and records nothing when the layout has changed. It reads the layout
 * after it has its lock on the partitions, so upkeep sees the lock of each transaction that used an earlier layout.
 */
export interface Layout {
  /** Number of the oldest partition whose keys count. */
  readonly first: number;
  /** Number of the newest partition. */
  readonly last: number;
  /** Whether new keys go to the last two partitions. */
  readonly overlapping: boolean;
  /** Whether the table of the inbox's first version is there and used (v1.ts). */
  readonly v1: boolean;
  /** Whether `inboxRetireV1` has run. */
  readonly retired: boolean;
}

/** Name of a partition, without the schema. */
export function partitionName(number: number): string {
  return `inbox_events_${number}`;
}

/** @throws Error when the table has no row */
export async function readLayout(db: QueryExecutorProvider): Promise<Layout> {
  const { rows } = await sql<Layout>`
    select first, last, overlapping, v1_retired as retired,
      not v1_retired and to_regclass(${`"${schemaOf(db)}".inbox`}::text) is not null as v1
    from ${tableOf(db, "inbox_partitions")}`.execute(db);
  const [layout] = rows;
  if (layout === undefined) throw new Error(`${schemaOf(db)}.inbox_partitions has no row: run inboxUpgrade again`);
  return layout;
}

/** Statements for one layout. */
export interface PartitionStatements {
  readonly layout: Layout;
  /** Stores keys, and gives those that were not there. Undefined when the layout has changed: nothing is stored then. */
  record(tx: QueryExecutorProvider, keys: readonly string[]): Promise<Set<string> | undefined>;
  /** Takes back keys that the same transaction has stored. */
  forget(tx: QueryExecutorProvider, keys: readonly string[]): Promise<void>;
}

interface FreshRow {
  readonly current: boolean | null;
  readonly keys: string;
}

export function statementsFor(schema: string, layout: Layout): PartitionStatements {
  const { first, last, overlapping, retired } = layout;
  const name = (number: number) => `"${schema}".${partitionName(number)}`;
  const given = "$1::text::uuid[]";
  const target = overlapping ? last - 1 : last;
  const isCurrent = `(
    select first = ${first} and last = ${last} and overlapping = ${overlapping} and v1_retired = ${retired}
    from "${schema}".inbox_partitions)`;
  const older = Array.from(
    { length: target - first },
    (_, i) => `select key from ${name(first + i)} where key = any(${given})`,
  );
  // In the order of the keys, or two transactions with the same keys could wait for each other.
  const insert = `
    insert into ${name(target)} (key)
    select key from unnest(${given}) as given (key)
    where ${isCurrent} ${older.length === 0 ? "" : `and key not in (${older.join(" union all ")})`}
    order by key
    on conflict do nothing`;
  const recordText = overlapping
    ? `with fresh as (${insert} returning key)
      insert into ${name(last)} (key) select key from fresh on conflict do nothing`
    : insert;
  const freshText = `
    select ${isCurrent} as current, array(
      select key from ${name(last)} where key = any(${given}) and xmin = pg_current_xact_id()::xid
    )::text as keys`;
  const forgetTexts = (overlapping ? [target, last] : [target]).map(
    (number) => `delete from ${name(number)} where key = any(${given})`,
  );

  return {
    layout,
    async record(tx, keys) {
      const given = [`{${keys.join(",")}}`];
      const { numAffectedRows } = await run(tx, recordText, given);
      if (numAffectedRows === BigInt(keys.length)) return new Set(keys);
      // There are copies, or the layout has changed. It may also have changed since, after keys were stored.
      const { rows } = await run<FreshRow>(tx, freshText, given);
      const [row] = rows;
      if (row === undefined || (numAffectedRows === 0n && row.current !== true)) return undefined;
      return new Set(row.keys.slice(1, -1).split(",").filter(Boolean));
    },
    async forget(tx, keys) {
      for (const text of forgetTexts) await run(tx, text, [`{${keys.join(",")}}`]);
    },
  };
}

/** Runs a text that was made before: to build it again for each batch would cost more than to send it. */
function run<Row>(db: QueryExecutorProvider, text: string, parameters: readonly unknown[]) {
  return db.getExecutor().executeQuery<Row>(CompiledQuery.raw(text, [...parameters]));
}

import { type Kysely, sql } from "kysely";

/** Tables that a part of a service needs beside those of its own migrations. */
export interface RequiredTables {
  /** Names of tables, and of columns as `table.column`, without the schema. */
  readonly names: readonly string[];
  /** What to do when one is missing, such as `add outboxUpgrade to the migrations`. */
  readonly hint: string;
}

/** @throws Error that names the first table or column that is missing, with the hint */
export async function assertTables(
  db: Kysely<unknown>,
  schema: string,
  required: Iterable<RequiredTables>,
): Promise<void> {
  for (const { names, hint } of required) {
    const { rows } = await sql<{ name: string }>`
      select name
      from unnest(${names}::text[]) with ordinality as names (name, place)
      cross join lateral to_regclass(format('%I.%I', ${schema}::text, split_part(name, '.', 1))) as found
      where found is null or (name like '%.%' and not exists (
        select from pg_attribute
        where attrelid = found and attname = split_part(name, '.', 2) and not attisdropped
      ))
      order by place`.execute(db);
    const missing = rows[0]?.name;
    if (missing === undefined) continue;
    const kind = missing.includes(".") ? "column" : "table";
    throw new Error(`the ${kind} ${schema}.${missing} is missing: ${hint}`);
  }
}

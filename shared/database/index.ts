export type { Migration } from "kysely/migration";
export { afterCommit } from "./after-commit.ts";
export { type DatabaseConfig, databaseSection } from "./config.ts";
export { createDatabase, type Database, type DatabaseOptions } from "./database.ts";
export { type Embedded, openEmbedded } from "./embedded.ts";
export { isOutage, violatedConstraint } from "./errors.ts";
export {
  type DatabaseLimits,
  limitsOf,
  probe,
  requireTables,
  schemaOf,
  sharedSessionOf,
  tableOf,
} from "./origin.ts";
export { decodePageToken, encodePageToken, type KeyColumn, type PageKey } from "./page-token.ts";
export type { RequiredTables } from "./required-tables.ts";
export { inTransaction } from "./transactional.ts";

export {
  type DatabaseForTestOptions,
  databaseConfig,
  databaseForTest,
  embeddedForTest,
  postgresForTest,
} from "./database.ts";

import process from "node:process";
import { run } from "#shared/lifecycle";
import { createUserApp } from "./app.ts";
import { loadUserConfig } from "./config.ts";

await run({ process, load: loadUserConfig, create: createUserApp });

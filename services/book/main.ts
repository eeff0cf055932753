import process from "node:process";
import { run } from "#shared/lifecycle";
import { createBookApp } from "./app.ts";
import { loadBookConfig } from "./config.ts";

await run({ process, load: loadBookConfig, create: createBookApp });

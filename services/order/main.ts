import process from "node:process";
import { run } from "#shared/lifecycle";
import { createOrderApp } from "./app.ts";
import { loadOrderConfig } from "./config.ts";

await run({ process, load: loadOrderConfig, create: createOrderApp });

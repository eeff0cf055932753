import process from "node:process";
import { run } from "#shared/lifecycle";
import { createGatewayApp } from "./app.ts";
import { loadGatewayConfig } from "./config.ts";

await run({ process, load: loadGatewayConfig, create: createGatewayApp });

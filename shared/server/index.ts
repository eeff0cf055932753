export { type ServerConfig, serverSection } from "./config.ts";
export type { Routes } from "./routes.ts";
export { createServer, type Server, type ServerOptions } from "./server.ts";

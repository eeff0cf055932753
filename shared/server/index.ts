export { type ServerConfig, serverSection } from "./config.ts";
export { createServer, type Server, type ServerOptions } from "./server.ts";

export { type AdminConfig, adminSection } from "./admin/admin-config.ts";
export { type AdminServer, type AdminServerOptions, createAdminServer } from "./admin/admin-server.ts";
export type { CallObserver, CallRecord } from "./call-record.ts";
export { type ServerConfig, serverSection } from "./config.ts";
export type { Routes } from "./routes.ts";
export { unread } from "./rpc/unread.ts";
export { type CorsOptions, createServer, type Server, type ServerOptions } from "./server.ts";
export type { RequestGate } from "./stages.ts";

export { type GrpcClientsConfig, grpcClientsSection, type ServiceConfig } from "./config.ts";
export { attemptKey } from "./log-interceptor.ts";
export type { SubchannelState } from "./subchannel.ts";
export {
  createTransportPool,
  type ServiceState,
  type TransportPool,
  type TransportPoolOptions,
} from "./transport-pool.ts";

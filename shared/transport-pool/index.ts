export { type GrpcClientsConfig, grpcClientsSection, type ServiceConfig } from "./config/service.ts";
export type { SubchannelState } from "./connections/subchannel.ts";
export type { EndpointState, MethodState, ServiceState } from "./states.ts";
export { createTransportPool, type TransportPool, type TransportPoolOptions } from "./transport-pool.ts";

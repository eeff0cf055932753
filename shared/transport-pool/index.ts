export type { CallObserver, CallRecord } from "./calls/call-record.ts";
export { type GrpcClientsConfig, grpcClientsSection, type ServiceConfig } from "./config/service.ts";
export type { SubchannelState } from "./connections/subchannel.ts";
export type { BreakerState, MethodState, PolicyState } from "./method-states.ts";
export type { EndpointState, ServiceState } from "./states.ts";
export { createTransportPool, type TransportPool, type TransportPoolOptions } from "./transport-pool.ts";

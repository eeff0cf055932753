export type { CallObserver, CallRecord } from "./call/call-record.ts";
export { type GrpcClientsConfig, grpcClientsSection, type ServiceConfig } from "./config/service.ts";
export type { SubchannelState } from "./connections/subchannel.ts";
export type { BreakerState, MethodState, PolicyState } from "./service/method-states.ts";
export type { EndpointState, ServiceState } from "./service/states.ts";
export { createTransportPool, type TransportPool, type TransportPoolOptions } from "./transport-pool.ts";

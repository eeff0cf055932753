export type { Endpoint } from "./addresses/endpoint.ts";
export {
  type ConsulTarget,
  type DnsTarget,
  type EtcdTarget,
  type K8sTarget,
  type SrvTarget,
  type StaticTarget,
  type Target,
  targetSchema,
} from "./addresses/target.ts";
export { type DiscoveryConfig, discoverySection } from "./config.ts";
export { createRegistration, type RegistrationOptions } from "./create-registration.ts";
export { createResolver, type ResolverOptions } from "./create-resolver.ts";
export { type RegistrationConfig, registrationSection } from "./registering/config.ts";
export type { Registration, RegistrationState } from "./registering/registration.ts";
export type { Resolver, ResolverListener } from "./resolving/resolver.ts";

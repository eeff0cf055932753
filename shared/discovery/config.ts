import { z } from "zod";
import { checkCertAndKey, duration, section, tlsFileKeys } from "#shared/config";

const url = z
  .string()
  .refine((text) => /^https?:\/\//i.test(text) && URL.canParse(text), 'expected "http://host:port" or "https://…"');

const etcdSection = section(
  {
    /** The members of the cluster; each is tried in turn. */
    endpoints: z.array(url).min(1).default(["http://127.0.0.1:2379"]),
    username: z.string().min(1).optional(),
    password: z.string().optional(),
    /** Read anew for each request. */
    ...tlsFileKeys,
  },
  (etcd, fault) => {
    checkCertAndKey(etcd, fault);
    if (etcd.username !== undefined && etcd.password === undefined) fault("password", "needed with username");
    if (etcd.password !== undefined && etcd.username === undefined) fault("username", "needed with password");
  },
);

const consulSection = section(
  {
    /** The agent of this machine. */
    address: url.default("http://127.0.0.1:8500"),
    token: z.string().min(1).optional(),
    /** Where services are looked up. Default: the agent's own. */
    datacenter: z.string().min(1).optional(),
    /** Read anew for each request. */
    ...tlsFileKeys,
  },
  checkCertAndKey,
);

/** The defaults are those of a pod with a service account. */
const k8sSection = section({
  api_server: url.default("https://kubernetes.default.svc"),
  /** Read anew for each request. The default one may be missing, as behind `kubectl proxy`. */
  token_file: z.string().min(1).optional(),
  /** Default: the service account's, when there is one; else the authorities that Node knows. */
  ca_file: tlsFileKeys.ca_file,
  /** Of services whose address names none. Default: the pod's own. */
  namespace: z.string().min(1).optional(),
});

const dnsSection = section({
  /** How often names are looked up again. */
  refresh_interval: duration("30s", { min: "100ms" }),
});

/**
 * `discovery` of a service's YAML: the registries that addresses such as `etcd:///book-service` are looked up in. All of
 * it has defaults.
 */
export const discoverySection = section({
  etcd: etcdSection.prefault({}),
  consul: consulSection.prefault({}),
  k8s: k8sSection.prefault({}),
  dns: dnsSection.prefault({}),
  /** How long a service keeps its last endpoints after its registry has begun to list none. */
  empty_grace: duration("30s"),
  /** The shortest time from one look to the next when connections fail. */
  min_refresh: duration("5s", { min: "10ms" }),
}).prefault({});

export type DiscoveryConfig = z.output<typeof discoverySection>;
export type EtcdConfig = DiscoveryConfig["etcd"];
export type ConsulConfig = DiscoveryConfig["consul"];
export type K8sConfig = DiscoveryConfig["k8s"];

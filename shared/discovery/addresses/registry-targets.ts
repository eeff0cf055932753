import { isIPv6 } from "node:net";
import { EXPECTED_HOST_PORT, type Fault, isPort, joinHostPort, parseHostPort } from "./host-port.ts";
import type { ConsulTarget, DnsTarget, EtcdTarget, K8sTarget, SrvTarget } from "./target.ts";

/** By scheme: reads `scheme://server/path`, the slash before the path already gone. */
export const registryParsers = { dns: parseDns, srv: parseSrv, etcd: parseEtcd, consul: parseConsul, k8s: parseK8s };

const DNS_PORT = 53;
const DNS_NAME =
  /^(?=.{1,253}\.?$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.?$/i;
const ETCD_SERVICE = /^[\w.-]+(?:\/[\w.-]+)*$/;
const CONSUL_SERVICE = /^[\w.-]+$/;
const K8S_SERVICE = /^([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.([a-z0-9](?:[a-z0-9-]*[a-z0-9])?))?:([a-z0-9-]+)$/;

function parseDns(text: string, server: string, path: string): DnsTarget | Fault {
  const nameServer = parseServer(server);
  if (typeof nameServer === "object") return nameServer;
  const name = parseHostPort(path);
  if ("fault" in name) {
    return path !== "" && !path.includes(":")
      ? { fault: `dns needs a port: dns:///${path}:9002` }
      : { fault: `after dns:///, ${name.fault}` };
  }
  return { text, scheme: "dns", authority: path, tls: false, server: nameServer, ...name };
}

function parseSrv(text: string, server: string, path: string): SrvTarget | Fault {
  const nameServer = parseServer(server);
  if (typeof nameServer === "object") return nameServer;
  if (!DNS_NAME.test(path)) return { fault: "expected the name of SRV records, such as srv:///_grpc._tcp.book" };
  // The domain without the service: what a certificate is made out to (RFC 6125).
  const authority = path.replace(/^_[^.]+\._[^.]+\./, "").replace(/\.$/, "");
  return { text, scheme: "srv", authority, tls: false, server: nameServer, name: path };
}

function parseEtcd(text: string, server: string, path: string): EtcdTarget | Fault {
  if (server !== "") return serverFault("etcd", "discovery.etcd.endpoints");
  if (!ETCD_SERVICE.test(path)) return { fault: "expected a service's name, such as etcd:///book-service" };
  return { text, scheme: "etcd", authority: path.slice(path.lastIndexOf("/") + 1), tls: false, service: path };
}

function parseConsul(text: string, server: string, path: string): ConsulTarget | Fault {
  if (server !== "") return serverFault("consul", "discovery.consul.address");
  const [service = "", query = "", ...more] = path.split("?");
  if (!CONSUL_SERVICE.test(service) || more.length > 0) {
    return { fault: "expected a service's name, such as consul:///book-service or consul:///book-service?tag=blue" };
  }
  const parameters = [...new URLSearchParams(query)];
  const unknown = parameters.find(([name]) => name !== "tag");
  if (unknown !== undefined) return { fault: `unknown parameter ${JSON.stringify(unknown[0])}; known is tag` };
  const [tag, second] = parameters.map(([, value]) => value);
  if (second !== undefined || tag === "") return { fault: "expected one tag: consul:///book-service?tag=blue" };
  return { text, scheme: "consul", authority: service, tls: false, service, tag };
}

function parseK8s(text: string, server: string, path: string): K8sTarget | Fault {
  if (server !== "") return serverFault("k8s", "discovery.k8s.api_server");
  const [, service, namespace, portText = ""] = K8S_SERVICE.exec(path) ?? [];
  if (service === undefined) {
    return { fault: "expected service.namespace:port, such as k8s:///book.shop:grpc or k8s:///book:9002" };
  }
  const isNumber = /^\d+$/.test(portText);
  if (isNumber && !isPort(Number(portText))) return { fault: "the port must be between 1 and 65535" };
  const host = namespace === undefined ? service : `${service}.${namespace}`;
  return {
    text,
    scheme: "k8s",
    // A port's name has no place in an authority.
    authority: isNumber ? `${host}:${Number(portText)}` : host,
    tls: false,
    service,
    namespace,
    port: isNumber ? Number(portText) : portText,
  };
}

/** `host:port` of a name server, undefined when none is given. */
function parseServer(server: string): string | undefined | Fault {
  if (server === "") return undefined;
  const hasPort = /:\d+$/.test(server) && !isIPv6(server);
  const parsed = parseHostPort(hasPort ? server : joinHostPort(server.replace(/^\[(.*)\]$/, "$1"), DNS_PORT));
  return "fault" in parsed
    ? { fault: `the name server: ${EXPECTED_HOST_PORT}` }
    : joinHostPort(parsed.host, parsed.port);
}

function serverFault(scheme: string, key: string): Fault {
  return { fault: `its servers are configured by ${key}: write ${scheme}:///…, with three slashes` };
}

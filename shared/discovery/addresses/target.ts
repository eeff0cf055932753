import { z } from "zod";
import { EXPECTED_HOST_PORT, type Fault, faultOfAuthority, joinHostPort, parseHostPort } from "./host-port.ts";
import { registryParsers } from "./registry-targets.ts";

interface Common<Scheme extends string> {
  /** As it is written; of a list, its entries with commas between. For messages. */
  readonly text: string;
  readonly scheme: Scheme;
  /**
   * `host` or `host:port`: what goes into `:authority` and, without the port, is the TLS server name, since the endpoints
   * have no names of their own. Undefined for `static`, where each endpoint's own address is used.
   */
  readonly authority: string | undefined;
  /** Whether it asks for TLS by itself: an `https://` address. */
  readonly tls: boolean;
}

export interface StaticTarget extends Common<"static"> {
  /** Each `host:port`, at least one. */
  readonly addresses: readonly string[];
}

export interface DnsTarget extends Common<"dns"> {
  /** The name server, `host:port`. Undefined: as the system resolves names. */
  readonly server: string | undefined;
  readonly host: string;
  readonly port: number;
}

export interface SrvTarget extends Common<"srv"> {
  /** The name server, `host:port`. Undefined: the system's. */
  readonly server: string | undefined;
  readonly name: string;
}

export interface EtcdTarget extends Common<"etcd"> {
  readonly service: string;
}

export interface ConsulTarget extends Common<"consul"> {
  readonly service: string;
  /** Only instances that have this tag. */
  readonly tag: string | undefined;
}

export interface K8sTarget extends Common<"k8s"> {
  readonly service: string;
  /** Undefined: `discovery.k8s.namespace`. */
  readonly namespace: string | undefined;
  /** The name of a port of the service, or the number that the pods listen on. */
  readonly port: string | number;
}

/** What `address:` of a service says, parsed. */
export type Target = StaticTarget | DnsTarget | SrvTarget | EtcdTarget | ConsulTarget | K8sTarget;

/**
 * Where the instances of a service are:
 *
 * - `localhost:9002`, `http://localhost:9002`, `https://…`, `[::1]:9002`, or a list of these, alike in TLS: `static`
 * - `dns:///book:9002`, `dns://10.0.0.53:53/book:9002`, `dns:book:9002` (gRPC's name syntax; a port is needed)
 * - `srv:///_grpc._tcp.book`, `srv://10.0.0.53/_grpc._tcp.book`
 * - `etcd:///book-service`
 * - `consul:///book-service`, `consul:///book-service?tag=blue`
 * - `k8s:///book.shop:grpc`, `k8s:///book:9002` (the namespace may be left out)
 */
export const targetSchema: z.ZodType<Target, string | string[]> = z
  .union([z.string(), z.array(z.string())])
  .transform((value, context): Target => {
    const fault = (message: string, path: number[] = []) => context.addIssue({ code: "custom", message, path });
    if (typeof value === "string") {
      const target = parseTarget(value);
      if (!("fault" in target)) return target;
      fault(target.fault);
      return z.NEVER;
    }
    return parseList(value, fault) ?? z.NEVER;
  });

// "dns:9002" is port 9002 of a host named dns.
const SCHEME = /^(?:([a-z][a-z0-9+.-]*):\/\/([^/]*)(.*)|(dns):([^/].*:.+))$/i;
const PARSERS = { ...registryParsers, http: parseStatic, https: parseStatic };

function parseTarget(text: string): Target | Fault {
  const [, scheme, server, path, bareScheme, barePath] = SCHEME.exec(text) ?? [];
  const name = (scheme ?? bareScheme)?.toLowerCase();
  if (name === undefined) return parseStatic(text);
  if (!Object.hasOwn(PARSERS, name)) {
    return { fault: `unknown scheme ${JSON.stringify(name)}; known are ${Object.keys(PARSERS).join(", ")}` };
  }
  const target = PARSERS[name as keyof typeof PARSERS](text, server ?? "", (path ?? barePath ?? "").replace(/^\//, ""));
  if ("fault" in target || target.authority === undefined) return target;
  const authorityFault = faultOfAuthority(target.authority);
  return authorityFault === undefined ? target : { fault: authorityFault };
}

function parseStatic(text: string): StaticTarget | Fault {
  const [, scheme, rest = ""] = /^(?:(https?):\/\/)?(.*?)\/?$/is.exec(text) ?? [];
  if (scheme === undefined && text.endsWith("/")) return { fault: EXPECTED_HOST_PORT };
  const parsed = parseHostPort(rest);
  if ("fault" in parsed) return parsed;
  return {
    text,
    scheme: "static",
    authority: undefined,
    tls: scheme?.toLowerCase() === "https",
    addresses: [joinHostPort(parsed.host, parsed.port)],
  };
}

function parseList(
  texts: readonly string[],
  fault: (message: string, path?: number[]) => void,
): StaticTarget | undefined {
  const entries: StaticTarget[] = [];
  const addresses = new Set<string>();
  let faults = 0;
  const refuse = (message: string, ...path: number[]) => {
    faults++;
    fault(message, path);
  };
  for (const [index, text] of texts.entries()) {
    const entry = parseTarget(text);
    if ("fault" in entry) refuse(entry.fault, index);
    else if (entry.scheme !== "static") refuse(`${entry.scheme}: stands alone, in no list`, index);
    else if (entry.addresses.some((address) => addresses.has(address))) refuse("is in the list already", index);
    else {
      entries.push(entry);
      for (const address of entry.addresses) addresses.add(address);
    }
  }
  if (texts.length === 0) refuse("at least one address is needed");
  const tls = entries.some((entry) => entry.tls);
  if (!entries.every((entry) => entry.tls === tls)) refuse("either all addresses are https:// or none is");
  if (faults > 0) return undefined;
  return { text: texts.join(","), scheme: "static", authority: undefined, tls, addresses: [...addresses] };
}

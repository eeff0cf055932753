import * as dns from "node:dns/promises";
import { isIP } from "node:net";
import { describeError } from "#shared/errors";
import { joinHostPort, parseHostPort } from "../addresses/host-port.ts";
import { RegistryError } from "./registry-error.ts";

export interface Addresses {
  readonly addresses: readonly string[];
  /** Why there are none: the name does not exist, or has no addresses. */
  readonly why?: Error;
}

export interface SrvRecords {
  readonly records: readonly {
    readonly name: string;
    readonly port: number;
    priority: number;
    readonly weight: number;
  }[];
  readonly why?: Error;
}

/** DNS lookups. A name that does not exist has an empty result; a lookup that no server answers is an error. */
export interface NameService {
  /**
   * @param known what it was the last time. A server that cannot say what the IPv4 addresses are may still know those of
   *   IPv6, and the other way round (RFC 4074): that is an answer unless addresses would be lost by it
   * @throws RegistryError when no server can say, Error when the signal fires
   */
  addresses(host: string, signal: AbortSignal, known?: readonly string[]): Promise<Addresses>;
  /** @throws RegistryError when no server can say, Error when the signal fires */
  srv(name: string, signal: AbortSignal): Promise<SrvRecords>;
}

const ATTEMPT_MS = 2_000;
const ATTEMPTS = 2;
/** As `isIP` counts them, in the order in which they are asked for. */
const FAMILIES = [4, 6] as const;
const NOTHING_THERE: ReadonlySet<unknown> = new Set(["ENOTFOUND", "ENODATA"]);

/**
 * @param server `host:port`. Undefined: addresses as the system finds them (`/etc/hosts`, search domains), SRV records from
 *   the system's servers. A lookup by the system cannot be ended: at worst it goes on unheard for as long as the system's
 *   own timeouts.
 */
export function createNameService(server: string | undefined): NameService {
  /** Created anew for each lookup: has no cache and uses the current servers of the system. */
  async function open(signal: AbortSignal): Promise<dns.Resolver> {
    const resolver = new dns.Resolver({ timeout: ATTEMPT_MS, tries: ATTEMPTS });
    if (server !== undefined) resolver.setServers(await addressesOf(server, signal));
    return resolver;
  }

  async function ask<T>(signal: AbortSignal, question: (resolver: dns.Resolver) => Promise<T>): Promise<T> {
    const resolver = await open(signal);
    const cancel = () => resolver.cancel();
    signal.addEventListener("abort", cancel);
    try {
      const answer = await question(resolver);
      signal.throwIfAborted();
      return answer;
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  return {
    async addresses(host, signal, known = []) {
      if (isIP(host) !== 0) return { addresses: [host] };
      if (server === undefined) return lookUp(host, signal);
      const answers = await ask(signal, (resolver) =>
        Promise.all([orWhy(resolver.resolve4(host)), orWhy(resolver.resolve6(host))]),
      );
      const addresses = answers.flatMap(({ found = [] }) => found);
      const wanted = FAMILIES.map((family) => addresses.length === 0 || known.some((one) => isIP(one) === family));
      const failed = answers.find(({ why }, index) => wanted[index] && why !== undefined && !isNothingThere(why));
      if (failed !== undefined) throw failure(host, failed.why);
      return addresses.length > 0 ? { addresses } : nothing(host, answers[0]?.why);
    },
    async srv(name, signal) {
      const { found, why } = await ask(signal, (resolver) => orWhy(resolver.resolveSrv(name)));
      if (found !== undefined) return { records: found };
      if (!isNothingThere(why)) throw failure(name, why);
      return { records: [], why: new RegistryError(`DNS knows no SRV records of ${name}`, { cause: why }) };
    },
  };
}

async function lookUp(host: string, signal: AbortSignal): Promise<Addresses> {
  const { found, why } = await unlessAborted(orWhy(dns.lookup(host, { all: true, order: "verbatim" })), signal);
  if (found !== undefined) return { addresses: found.map(({ address }) => address) };
  if (!isNothingThere(why)) throw failure(host, why);
  return nothing(host, why);
}

/** Resolves the host of a name server to its addresses, which are tried in turn. */
async function addressesOf(server: string, signal: AbortSignal): Promise<string[]> {
  const parsed = parseHostPort(server);
  if ("fault" in parsed || isIP(parsed.host) !== 0) return [server];
  const { addresses } = await lookUp(parsed.host, signal);
  if (addresses.length === 0) throw new RegistryError(`the name server ${server} has no address`);
  return addresses.map((address) => joinHostPort(address, parsed.port));
}

function orWhy<T>(answer: Promise<T>): Promise<{ readonly found?: T; readonly why?: unknown }> {
  return answer.then(
    (found) => ({ found }),
    (why: unknown) => ({ why }),
  );
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const end = () => reject(signal.reason);
  signal.addEventListener("abort", end);
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", end);
  }
}

function isNothingThere(error: unknown): boolean {
  return error instanceof Error && "code" in error && NOTHING_THERE.has(error.code);
}

function nothing(host: string, cause: unknown): Addresses {
  return { addresses: [], why: new RegistryError(`DNS knows no addresses of ${host}`, { cause }) };
}

function failure(name: string, cause: unknown): RegistryError {
  return new RegistryError(`DNS cannot say what ${name} is: ${describeError(cause)}`, { cause });
}

import type { Transport } from "@connectrpc/connect";
import type { PickCall } from "./balancing/channel.ts";
import type { Endpoint } from "./balancing/endpoint.ts";
import type { ServiceConfig } from "./config/service.ts";
import type { ServiceChannel } from "./service-channel.ts";

/** The way to a service that one configuration describes. */
export interface Way {
  readonly channel: ServiceChannel;
  readonly transport: Transport;
}

/** The ways to one service, of which a reload puts one in the place of the other under the calls that are going on. */
export interface Ways {
  current(): ServiceChannel;
  /** Those that were replaced and still carry calls. */
  replaced(): ServiceChannel[];
  /** Goes the way of now, whatever becomes of it in the meantime. */
  readonly transport: Transport;
  /** Does what can fail; the function that it answers puts the new way in place. */
  prepare(config: ServiceConfig): () => void;
  close(timeoutMs: number): Promise<void>;
}

export interface WaysOptions {
  readonly initial: ServiceConfig;
  readonly openChannel: (config: ServiceConfig) => ServiceChannel;
  readonly openTransport: (config: ServiceConfig, channel: Followed) => Transport;
}

/** The channel that calls of one protocol are to take, whichever that is by now. */
export interface Followed {
  pick(call: PickCall, now?: number): Endpoint | Promise<Endpoint>;
  latest(): ServiceChannel;
}

/** What speaks one protocol over one version of HTTP: calls can be moved from one of its ways to the next. */
interface Family {
  way: Way;
  /** Calls that have begun and still may need its way. */
  calls: number;
  /** One of them has been sent, or has failed. */
  readonly ended: () => void;
}

/** As long as a timer can wait: calls on connections that a reload has replaced end when they end. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * What has not been sent when its way is replaced goes on by the next one if that speaks the same protocol. Otherwise
 * the old way stays for the calls that have begun on it.
 */
export function createWays({ initial, openChannel, openTransport }: WaysOptions): Ways {
  const families = new Map<string, Family>();
  const replaced = new Set<ServiceChannel>();
  let current = familyOf(initial, open(initial));

  function open(config: ServiceConfig): Way {
    const channel = openChannel(config);
    const key = keyOf(config);
    const latest = () => families.get(key)?.way.channel ?? channel;
    return { channel, transport: openTransport(config, { latest, pick: (call, now) => pickFrom(latest, call, now) }) };
  }

  function pickFrom(latest: () => ServiceChannel, call: PickCall, now?: number): Endpoint | Promise<Endpoint> {
    const chosen = latest();
    const endpoint = chosen.pick(call, now);
    return endpoint instanceof Promise ? pickAgain(endpoint, chosen, latest, call) : endpoint;
  }

  async function pickAgain(
    first: Promise<Endpoint>,
    from: ServiceChannel,
    latest: () => ServiceChannel,
    call: PickCall,
  ): Promise<Endpoint> {
    let chosen = from;
    let pick: Endpoint | Promise<Endpoint> = first;
    for (;;) {
      try {
        return await pick;
      } catch (error) {
        if (chosen === latest() || call.signal.aborted) throw error;
      }
      chosen = latest();
      pick = chosen.pick(call);
    }
  }

  function familyOf(config: ServiceConfig, way: Way): Family {
    const key = keyOf(config);
    const family = families.get(key) ?? createFamily(way);
    families.set(key, family);
    return family;
  }

  function createFamily(way: Way): Family {
    const family: Family = {
      way,
      calls: 0,
      ended() {
        family.calls--;
        retireUnused(family);
      },
    };
    return family;
  }

  function retire(channel: ServiceChannel): void {
    replaced.add(channel);
    void channel.close(LONGEST_MS, "its configuration has changed").then(() => replaced.delete(channel));
  }

  function retireUnused(family: Family): void {
    if (family === current || family.calls > 0) return;
    for (const [key, one] of families) if (one === family) families.delete(key);
    retire(family.way.channel);
  }

  /** The family needs its way until the promise settles. */
  function carried<T>(family: Family, sent: Promise<T>): Promise<T> {
    sent.then(family.ended, family.ended);
    return sent;
  }

  function begin(): Family {
    current.calls++;
    return current;
  }

  return {
    current: () => current.way.channel,
    replaced: () => {
      const waiting = [...families.values()].filter((family) => family !== current);
      return [...replaced, ...waiting.map(({ way }) => way.channel)];
    },
    transport: {
      unary(method, signal, timeoutMs, header, input, contextValues) {
        const family = begin();
        const { transport } = family.way;
        return carried(family, transport.unary(method, signal, timeoutMs, header, input, contextValues));
      },
      stream(...call) {
        const family = begin();
        return carried(family, family.way.transport.stream(...call));
      },
    },
    prepare(config) {
      const way = open(config);
      return () => {
        const old = current;
        if (old.way.channel.state() !== "idle") way.channel.connect();
        current = familyOf(config, way);
        if (current.way !== way) {
          const before = current.way;
          current.way = way;
          retire(before.channel);
        }
        retireUnused(old);
      };
    },
    async close(timeoutMs) {
      const channels = [...[...families.values()].map(({ way }) => way.channel), ...replaced];
      await Promise.all(channels.map((channel) => channel.close(timeoutMs)));
    },
  };
}

function keyOf({ http, protocol }: ServiceConfig): string {
  return `${protocol} over HTTP/${http}`;
}

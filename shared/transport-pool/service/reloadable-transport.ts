import type { Transport } from "@connectrpc/connect";
import type { PickCall } from "../balancing/channel.ts";
import type { Endpoint } from "../balancing/endpoint.ts";
import type { ServiceConfig } from "../config/service.ts";
import type { ServiceChannel } from "./service-channel.ts";

/** The generation to a service that one configuration describes. */
export interface ChannelGeneration {
  readonly channel: ServiceChannel;
  readonly transport: Transport;
}

/** The transport of one service. A reload replaces its channel under the calls that are in flight. */
export interface ReloadableTransport {
  current(): ServiceChannel;
  /** Those that were replaced and still carry calls. */
  replaced(): ServiceChannel[];
  /** Goes the generation of now, whatever becomes of it in the meantime. */
  readonly transport: Transport;
  /** Does what can fail; the function that it answers puts the new generation in place. */
  prepare(config: ServiceConfig): () => void;
  close(timeoutMs: number): Promise<void>;
}

export interface ReloadableTransportOptions {
  readonly initial: ServiceConfig;
  readonly openChannel: (config: ServiceConfig) => ServiceChannel;
  readonly openTransport: (config: ServiceConfig, channel: EndpointPicker) => Transport;
}

/** The channel that calls of one protocol are to take, whichever that is by now. */
export interface EndpointPicker {
  pick(call: PickCall, now?: number): Endpoint | Promise<Endpoint>;
  latest(): ServiceChannel;
}

/** One protocol over one HTTP version: calls can move from one of its channels to the next. */
interface ProtocolGeneration {
  generation: ChannelGeneration;
  /** Calls that have begun and still may need its generation. */
  calls: number;
  /** One of them has been sent, or has failed. */
  readonly ended: () => void;
}

/** As long as a timer can wait: calls on connections that a reload has replaced end when they end. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * What has not been sent when its generation is replaced goes on by the next one if that speaks the same protocol. Otherwise
 * the old generation stays for the calls that have begun on it.
 */
export function createReloadableTransport({
  initial,
  openChannel,
  openTransport,
}: ReloadableTransportOptions): ReloadableTransport {
  const protocols = new Map<string, ProtocolGeneration>();
  const replaced = new Set<ServiceChannel>();
  let current = protocolOf(initial, open(initial));

  function open(config: ServiceConfig): ChannelGeneration {
    const channel = openChannel(config);
    const key = keyOf(config);
    const latest = () => protocols.get(key)?.generation.channel ?? channel;
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

  function protocolOf(config: ServiceConfig, generation: ChannelGeneration): ProtocolGeneration {
    const key = keyOf(config);
    const protocol = protocols.get(key) ?? createProtocol(generation);
    protocols.set(key, protocol);
    return protocol;
  }

  function createProtocol(generation: ChannelGeneration): ProtocolGeneration {
    const protocol: ProtocolGeneration = {
      generation,
      calls: 0,
      ended() {
        protocol.calls--;
        retireUnused(protocol);
      },
    };
    return protocol;
  }

  function retire(channel: ServiceChannel): void {
    replaced.add(channel);
    void channel.close(LONGEST_MS, "its configuration has changed").then(() => replaced.delete(channel));
  }

  function retireUnused(protocol: ProtocolGeneration): void {
    if (protocol === current || protocol.calls > 0) return;
    for (const [key, one] of protocols) if (one === protocol) protocols.delete(key);
    retire(protocol.generation.channel);
  }

  /** The protocol keeps its channel until the promise settles. */
  function carried<T>(protocol: ProtocolGeneration, sent: Promise<T>): Promise<T> {
    sent.then(protocol.ended, protocol.ended);
    return sent;
  }

  function begin(): ProtocolGeneration {
    current.calls++;
    return current;
  }

  return {
    current: () => current.generation.channel,
    replaced: () => {
      const waiting = [...protocols.values()].filter((protocol) => protocol !== current);
      return [...replaced, ...waiting.map(({ generation }) => generation.channel)];
    },
    transport: {
      unary(method, signal, timeoutMs, header, input, contextValues) {
        const protocol = begin();
        const { transport } = protocol.generation;
        return carried(protocol, transport.unary(method, signal, timeoutMs, header, input, contextValues));
      },
      stream(...call) {
        const protocol = begin();
        return carried(protocol, protocol.generation.transport.stream(...call));
      },
    },
    prepare(config) {
      const generation = open(config);
      return () => {
        const old = current;
        if (old.generation.channel.state() !== "idle") generation.channel.connect();
        current = protocolOf(config, generation);
        if (current.generation !== generation) {
          const before = current.generation;
          current.generation = generation;
          retire(before.channel);
        }
        retireUnused(old);
      };
    },
    async close(timeoutMs) {
      const channels = [...[...protocols.values()].map(({ generation }) => generation.channel), ...replaced];
      await Promise.all(channels.map((channel) => channel.close(timeoutMs)));
    },
  };
}

function keyOf({ http, protocol }: ServiceConfig): string {
  return `${protocol} over HTTP/${http}`;
}

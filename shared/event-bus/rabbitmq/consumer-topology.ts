import type { RabbitmqConfig } from "../config.ts";
import type { ConsumerDefinition } from "../consuming/definition.ts";
import type { BrokerConnection } from "./connection.ts";
import { declareHandledTypes } from "./handled-types.ts";
import { declare, ephemeralTopologyOf, topologyOf } from "./topology.ts";

/** Declares what a consumer needs on the broker. Each method throws TopologyError; DomainError EVENT_BUS_UNAVAILABLE. */
export interface ConsumerTopology {
  /** Declares a queue to consume, and returns its name. An ephemeral queue has another name each time. */
  declare(): Promise<string>;
  /** Declares again what may have been deleted. Of an ephemeral queue, which its channel has made, only the bindings. */
  repair(): Promise<void>;
}

/** @param connection called for each declaration */
export function createConsumerTopology(
  definition: ConsumerDefinition,
  config: RabbitmqConfig,
  connection: () => BrokerConnection,
): ConsumerTopology {
  const { queue, bindingKeys } = definition;
  const { connectTimeoutMs: timeoutMs } = config;
  const open = () => connection().channel();

  async function declareDurable(): Promise<string> {
    const topology = topologyOf(definition, config);
    if (config.ignoreUnknown) {
      // Before the bindings: an older version would ignore an event that arrives by a binding before its type is bound.
      await declare(open, { ...topology, bindings: [] }, timeoutMs);
      await declareHandledTypes(open, queue, definition.typeNames, timeoutMs);
    }
    await declare(open, topology, timeoutMs);
    return queue;
  }

  if (!definition.ephemeral) {
    return { declare: declareDurable, repair: async () => void (await declareDurable()) };
  }

  /** The broker may not know yet that the last connection is gone, so that each queue has a name of its own. */
  let generation = 0;
  const ephemeral = () => ephemeralTopologyOf(`${queue}.${generation}`, bindingKeys, config);
  return {
    async declare() {
      generation++;
      await declare(open, ephemeral(), timeoutMs);
      return `${queue}.${generation}`;
    },
    async repair() {
      if (generation > 0) await declare(open, { ...ephemeral(), queues: [] }, timeoutMs);
    },
  };
}

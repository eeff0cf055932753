import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import type { EventBus } from "./bus.ts";
import { type RabbitmqConfig, usesBroker } from "./config.ts";
import { createInProcessBroker, type InProcessBroker } from "./in-process/broker.ts";
import { createInProcessBus } from "./in-process/bus.ts";
import { createRabbitmqBus } from "./rabbitmq/bus.ts";

export interface EventBusOptions {
  /** The `rabbitmq` section: it says whether there is a broker. */
  readonly config: RabbitmqConfig;
  /** The service's name: where its events come from. */
  readonly source: string;
  readonly logger: Logger;
  /** Gets the component `event bus`: ready from the first connection on, since later outages are the outbox's to bridge. */
  readonly readiness: Readiness;
  /** What services in one process share, when there is no RabbitMQ. Default: one of this bus alone. */
  readonly broker?: InProcessBroker;
}

/** Events over RabbitMQ when the configuration has one, else inside the process. */
export function createEventBus(options: EventBusOptions): EventBus {
  const { config, logger, broker } = options;
  if (usesBroker(config)) return createRabbitmqBus(options);
  if (broker === undefined)
    logger.warn("events stay inside of this process: set rabbitmq.url where services share them");
  return createInProcessBus({ ...options, broker: broker ?? createInProcessBroker() });
}

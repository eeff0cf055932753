import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import type { EventBus } from "./bus.ts";
import { type RabbitmqConfig, usesBroker } from "./config.ts";
import { createInProcessBroker, type InProcessBroker } from "./in-process/broker.ts";
import { createInProcessBus } from "./in-process/bus.ts";
import { createRabbitmqBus } from "./rabbitmq/bus.ts";

export interface EventBusOptions {
  /** The `rabbitmq` section. Without a URL, events stay in the process. */
  readonly config: RabbitmqConfig;
  /** The service's name: the `source` of its events. */
  readonly source: string;
  readonly logger: Logger;
  /** Gets the component `event bus`. It stays ready when the broker is lost later: the outbox bridges such outages. */
  readonly readiness: Readiness;
  /** Shared by the services of one process when there is no RabbitMQ. Default: a broker of this bus alone. */
  readonly broker?: InProcessBroker;
}

/** Creates a bus over RabbitMQ when the configuration has a URL, else inside the process. */
export function createEventBus(options: EventBusOptions): EventBus {
  const { config, logger, broker } = options;
  if (usesBroker(config)) return createRabbitmqBus(options);
  if (broker === undefined) logger.info("events stay inside this process: set rabbitmq.url where services share them");
  return createInProcessBus({ ...options, broker: broker ?? createInProcessBroker() });
}

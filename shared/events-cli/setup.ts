import type { DescFile, DescMessage } from "@bufbuild/protobuf";
import { DomainError } from "#shared/errors";
import type { RabbitmqConfig } from "#shared/event-bus";
import type { ServiceDatabase } from "./service-database.ts";

/** As `process.env` is. */
export type Env = Readonly<Record<string, string | undefined>>;

/** The system whose events they are. */
export interface EventsSetup {
  readonly services: Readonly<Record<string, EventsService>>;
  /** The files that declare its events: what the catalogue lists, and dead letters are decoded by. */
  readonly files: readonly DescFile[];
  /** Where buf.yaml is. */
  readonly protoFolder: string;
}

export interface EventsService {
  /** The `rabbitmq` section of its configuration, if it has one. @throws ConfigError */
  readonly rabbitmq: (env: Env) => RabbitmqConfig | undefined;
  /** What the consumer of its queue handles: the queue is bound by it, as by the configured `routing_key`. Default: none. */
  readonly handles?: readonly DescMessage[];
  /** Its database, if it has an outbox. @throws ConfigError */
  readonly database?: (env: Env) => ServiceDatabase;
}

/** A service's configuration among the others': a file and a queue in the environment are those of one service. */
export function configAmongAll({ rabbitmq }: EventsService, env: Env): RabbitmqConfig | undefined {
  const { CONFIG_FILE: _file, RABBITMQ_QUEUE: _queue, ...shared } = env;
  return rabbitmq(shared);
}

/** @throws DomainError BROKER_UNKNOWN; ConfigError */
export function urlOfQueue(env: Env, { services }: EventsSetup, queue: string): string {
  if (env["RABBITMQ_URL"]) return env["RABBITMQ_URL"];
  for (const [name, service] of Object.entries(services)) {
    const config = configAmongAll(service, env);
    if (config?.queue === queue) return urlOf(env, config, name);
  }
  throw brokerUnknown(`no service has the queue ${queue} in its configuration`);
}

/** @throws DomainError BROKER_UNKNOWN */
export function urlOf(env: Env, config: RabbitmqConfig, service: string): string {
  const url = env["RABBITMQ_URL"] || config.url;
  if (url === "") throw brokerUnknown(`the configuration of ${service} has no rabbitmq.url`);
  return url;
}

function brokerUnknown(why: string): DomainError {
  return new DomainError("failed_precondition", "BROKER_UNKNOWN", `${why}: give --url, or set RABBITMQ_URL`);
}

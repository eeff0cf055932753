import type { DescMessage } from "@bufbuild/protobuf";
import type { Channel } from "rabbitmq-client";
import {
  bindingKeysOf,
  codeOf,
  deadLetterQueueOf,
  type RabbitmqConfig,
  type Topology,
  topologyOf,
} from "#shared/event-bus";
import { answered, type Broker, onChannel, textOf } from "./broker.ts";

/** How something that is configured stands on the broker. */
export type Standing =
  | { readonly state: "ok" }
  | { readonly state: "missing" }
  /** `said`: the broker's own words. */
  | { readonly state: "differs"; readonly said: string }
  /** The broker does not let us look: no permission, or it is another connection's own. */
  | { readonly state: "refused"; readonly said: string };

export interface ExchangeReport {
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly standing: Standing;
}

export interface QueueReport {
  readonly name: string;
  readonly role: "work" | "retry" | "dead letters";
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly standing: Standing;
  /** Messages that are not delivered to a consumer; null when there is no such queue. */
  readonly messages: number | null;
  readonly consumers: number | null;
}

export interface TopologyReport {
  readonly exchange: ExchangeReport;
  /** The work queue, its retry queues as configured now, and its dead-letter queue. */
  readonly queues: readonly QueueReport[];
  /** As configured: AMQP has no way to read what there is. */
  readonly bindings: readonly { readonly exchange: string; readonly queue: string; readonly routingKey: string }[];
}

export interface TopologyReportOptions {
  readonly config: RabbitmqConfig;
  /** What the configured queue's consumer handles: it is bound by their routing keys too. */
  readonly handles: readonly DescMessage[];
}

/**
 * Holds what a service declares against the broker, and makes nothing there.
 *
 * @throws DomainError EVENT_BUS_UNAVAILABLE
 */
export async function topologyReport(
  broker: Broker,
  { config, handles }: TopologyReportOptions,
): Promise<TopologyReport> {
  const { queue } = config;
  const bindingKeys = bindingKeysOf(config.routingKey, handles, config);
  const topology = topologyOf({ queue, bindingKeys, retryDelaysMs: config.retry.delaysMs }, config);
  const { exchange, bindings } = topology;
  const queues: QueueReport[] = [];
  for (const declaration of inOrder(topology, queue)) queues.push(await queueReport(broker, declaration, queue));
  return {
    exchange: {
      name: exchange.exchange,
      type: config.exchangeType,
      durable: config.durable,
      autoDelete: config.autoDelete,
      standing: (await look(broker, (channel, passive) => channel.exchangeDeclare({ ...exchange, passive }))).standing,
    },
    queues,
    bindings: bindings.map(({ routingKey = "" }) => ({ exchange: config.exchange, queue, routingKey })),
  };
}

type QueueDeclaration = Topology["queues"][number];

async function queueReport(broker: Broker, declaration: QueueDeclaration, workQueue: string): Promise<QueueReport> {
  const { queue: name = "" } = declaration;
  const { standing, answer } = await look(broker, (channel, passive) =>
    channel.queueDeclare({ ...declaration, passive }),
  );
  return {
    name,
    role: name === workQueue ? "work" : name === deadLetterQueueOf(workQueue) ? "dead letters" : "retry",
    arguments: declaration.arguments ?? {},
    standing,
    messages: answer?.messageCount ?? null,
    consumers: answer?.consumerCount ?? null,
  };
}

/**
 * Passively first, which makes nothing and compares nothing; then, if it is there, as a service would, which compares. Each
 * on a channel of its own, since a no closes the channel.
 */
async function look<T>(
  broker: Broker,
  declare: (channel: Channel, passive: boolean) => Promise<T>,
): Promise<{ readonly standing: Standing; readonly answer?: T }> {
  const there = await attempt(() => onChannel(broker, (channel) => answered(declare(channel, true))));
  if ("standing" in there) return there;
  const same = await attempt(() => onChannel(broker, (channel) => answered(declare(channel, false))));
  return { standing: "standing" in same ? same.standing : { state: "ok" }, answer: there.answer };
}

async function attempt<T>(work: () => Promise<T>): Promise<{ readonly answer: T } | { readonly standing: Standing }> {
  try {
    return { answer: await work() };
  } catch (error) {
    const code = codeOf(error);
    if (code === "NOT_FOUND") return { standing: { state: "missing" } };
    if (code === "PRECONDITION_FAILED") return { standing: { state: "differs", said: textOf(error) } };
    if (code === "ACCESS_REFUSED" || code === "RESOURCE_LOCKED")
      return { standing: { state: "refused", said: textOf(error) } };
    throw error;
  }
}

/** A reader looks for the work queue first. */
function inOrder({ queues }: Topology, workQueue: string): readonly QueueDeclaration[] {
  const rank = ({ queue }: QueueDeclaration) =>
    queue === workQueue ? 0 : queue === deadLetterQueueOf(workQueue) ? 2 : 1;
  return queues.toSorted((a, b) => rank(a) - rank(b));
}

import { once } from "node:events";
import type { Channel } from "rabbitmq-client";
import { type BrokerConnection, busUnavailable, codeOf, createClient } from "#shared/event-bus";
import { bounded } from "#shared/timing";
import { queueNotFound } from "./errors.ts";

/** A connection for as long as one command takes. It is not made again: what is lost fails the command. */
export interface Broker extends BrokerConnection {
  /** Host, port and virtual host, without the credentials. */
  readonly address: string;
}

/** For each answer of the broker. */
export const ANSWER_TIMEOUT_MS = 10_000;

/** @throws DomainError EVENT_BUS_UNAVAILABLE, whose message says why */
export async function openBroker(url: string): Promise<Broker> {
  const address = addressOf(url);
  const rabbit = createClient({
    url,
    connectionName: "events command",
    connectionTimeout: ANSWER_TIMEOUT_MS,
    acquireTimeout: ANSWER_TIMEOUT_MS,
    heartbeat: 10,
  });
  let blocked = false;
  let lost: Error | undefined;
  rabbit.on("error", (cause: unknown) => {
    lost ??= busUnavailable(`RabbitMQ at ${address}: ${textOf(cause)}`, cause);
    rabbit.unsafeDestroy();
  });
  rabbit.on("connection.blocked", () => {
    blocked = true;
  });
  rabbit.on("connection.unblocked", () => {
    blocked = false;
  });
  const { kind } = await bounded(once(rabbit, "connection"), ANSWER_TIMEOUT_MS);
  if (kind !== "done") {
    rabbit.unsafeDestroy();
    throw lost ?? busUnavailable(`RabbitMQ at ${address} does not answer`);
  }

  return {
    address,
    state() {
      const state = lost !== undefined ? "closed" : blocked ? "blocked" : "connected";
      return { name: "publish", state, ...(lost !== undefined && { lastError: lost.message }) };
    },
    get isReady() {
      return lost === undefined && !blocked;
    },
    async ready() {
      if (lost !== undefined) throw lost;
      if (blocked) throw busUnavailable(`RabbitMQ at ${address} is short of memory or disk, and takes no messages`);
    },
    writeTogether() {},
    async channel() {
      if (lost !== undefined) throw lost;
      try {
        const channel = await answered(rabbit.acquire({ emitErrorsFromChannel: true }));
        // A pending request of the channel rejects with the error.
        channel.on("error", () => {});
        return channel;
      } catch (error) {
        throw lost ?? error;
      }
    },
    async close(timeoutMs) {
      // Of a lost one it would wait in vain.
      if (lost === undefined) await bounded(rabbit.close(), timeoutMs);
      rabbit.unsafeDestroy();
    },
  };
}

/** @throws what the work throws; DomainError EVENT_BUS_UNAVAILABLE when it takes too long or the socket fails */
export async function answered<T>(work: Promise<T>): Promise<T> {
  const outcome = await bounded(work, ANSWER_TIMEOUT_MS);
  switch (outcome.kind) {
    case "done":
      return outcome.value;
    case "overran":
      throw busUnavailable(`RabbitMQ has not answered within ${ANSWER_TIMEOUT_MS / 1_000} s`);
    case "failed": {
      const { cause } = outcome;
      throw isSocketError(cause)
        ? busUnavailable(`the connection with RabbitMQ is lost: ${textOf(cause)}`, cause)
        : cause;
    }
  }
}

/** Requests of a channel may fail with the socket's own error before the connection reports its loss. */
function isSocketError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error;
}

/** Runs it on a channel of its own, since what the broker refuses costs the channel. */
export async function onChannel<T>(
  { channel: open }: Pick<Broker, "channel">,
  work: (channel: Channel) => Promise<T>,
): Promise<T> {
  const channel = await open();
  try {
    return await work(channel);
  } finally {
    await bounded(channel.close(), ANSWER_TIMEOUT_MS);
  }
}

/** Counts the messages of a queue that are not delivered to a consumer. @throws DomainError QUEUE_NOT_FOUND */
export async function countOf(broker: Pick<Broker, "channel">, queue: string): Promise<number> {
  try {
    const declared = await onChannel(broker, (channel) => answered(channel.queueDeclare({ queue, passive: true })));
    return declared.messageCount;
  } catch (error) {
    throw codeOf(error) === "NOT_FOUND" ? queueNotFound(queue, error) : error;
  }
}

/** The broker's own words. What was tried at several addresses of a host has a code alone. */
export function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Where rabbitmq-client names the command that was refused, and there was none.
  return error.message.replace(/^undefined: /, "") || (codeOf(error) ?? error.name);
}

function addressOf(url: string): string {
  if (!/^amqps?:\/\//.test(url) || !URL.canParse(url))
    throw busUnavailable("the broker's URL is not amqp://… or amqps://…");
  const { host, pathname } = new URL(url);
  return host + (pathname === "/" ? "" : pathname);
}

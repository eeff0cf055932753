import type { Channel, Envelope, ReturnedMessage } from "rabbitmq-client";
import { bounded } from "#shared/timing";
import { busUnavailable, isBusOutage, refused, unroutable } from "../errors.ts";
import { createReturnsBarrier } from "./client-workarounds.ts";
import { type BrokerConnection, codeOf } from "./connection.ts";

/** Publishes with the broker's confirmation. */
export interface Publisher {
  /**
   * Resolves when the message is stored in every queue that takes it.
   *
   * @throws DomainError EVENT_BUS_UNAVAILABLE (it may be stored all the same), EVENT_UNROUTABLE, EVENT_REFUSED
   */
  send(envelope: Envelope, body: Buffer, signal?: AbortSignal): Promise<void>;
  readonly unconfirmed: number;
  /** Waits for what is unconfirmed. */
  close(timeoutMs: number): Promise<void>;
}

export interface PublisherOptions {
  readonly connection: BrokerConnection;
  /** On each new channel, before its first message. */
  readonly prepare: (channel: Channel) => Promise<void>;
  /** From `send` to the confirmation. */
  readonly timeoutMs: number;
}

/** More are refused at once: a caller that does not wait must not fill the memory. */
const MOST_UNCONFIRMED = 10_000;
const MOST_UNCONFIRMED_BYTES = 128 * 1024 * 1024;
/** For so many messages after the broker has closed the channel because of one, they go out one by one. */
const CAREFUL = 500;

/** A message in flight, or copies of it to the same place. */
interface Flight {
  copies: number;
  returned: boolean;
}

export function createPublisher({ connection, prepare, timeoutMs }: PublisherOptions): Publisher {
  const flights = new Map<string, Flight>();
  const afterReturns = createReturnsBarrier();
  const emptied = new Set<() => void>();
  let current: Channel | undefined;
  let opening: Promise<Channel> | undefined;
  let unconfirmed = 0;
  let unconfirmedBytes = 0;
  /** How many more are to go out one by one: then it shows which one the broker does not take. */
  let careful = 0;
  let previous: Promise<unknown> = Promise.resolve();
  let closed = false;

  async function open(): Promise<Channel> {
    await connection.ready(AbortSignal.timeout(timeoutMs));
    // The connection was only blocked, or another channel came first.
    if (current?.active) return current;
    const channel = await connection.channel();
    channel.on("basic.return", onReturn);
    channel.once("close", () => discard(channel));
    const work = prepare(channel).then(() => channel.confirmSelect());
    const outcome = await bounded(work, timeoutMs);
    if (outcome.kind === "done") {
      current = channel;
      return channel;
    }
    void channel.close();
    throw outcome.kind === "failed" ? outcome.cause : busUnavailable("the broker does not answer");
  }

  function ready(): Promise<Channel> {
    opening ??= open().finally(() => {
      opening = undefined;
    });
    return opening;
  }

  function discard(channel: Channel): void {
    if (current === channel) current = undefined;
  }

  function onReturn(message: ReturnedMessage): void {
    const flight = flights.get(flightKey(message));
    if (flight !== undefined) flight.returned = true;
  }

  function takeOff(envelope: Envelope): Flight {
    const key = flightKey(envelope);
    const flight = flights.get(key) ?? { copies: 0, returned: false };
    flight.copies++;
    flights.set(key, flight);
    return flight;
  }

  function land(envelope: Envelope, flight: Flight): void {
    if (--flight.copies === 0) flights.delete(flightKey(envelope));
  }

  function send(envelope: Envelope, body: Buffer, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      let settled = false;
      let written: Channel | undefined;
      unconfirmed++;
      unconfirmedBytes += body.length;

      function settle(finish: () => void): void {
        if (settled) return;
        settled = true;
        unconfirmed--;
        unconfirmedBytes -= body.length;
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        finish();
        if (unconfirmed === 0) for (const done of emptied) done();
      }

      function fail(error: unknown): void {
        settle(() => reject(publishError(error)));
      }

      function expire(): void {
        // A channel that owes confirmations keeps them in memory for ever: the next message gets a new one.
        if (written !== undefined && written === current && connection.isReady) {
          discard(written);
          void written.close();
        }
        fail(busUnavailable(`not confirmed within ${timeoutMs} ms`));
      }

      function write(channel: Channel): void {
        // Too late: its sender has given up, and will send it again.
        if (settled) return;
        written = channel;
        const flight = takeOff(envelope);
        connection.writeTogether();
        channel.basicPublish(envelope, body).then(
          () => {
            afterReturns(() => {
              const { returned } = flight;
              land(envelope, flight);
              settle(() => (returned ? reject(unroutable(envelope.routingKey ?? "")) : resolve()));
            });
          },
          (error: unknown) => {
            land(envelope, flight);
            if (closesChannel(error)) careful = CAREFUL;
            fail(error);
          },
        );
      }

      const abort = () => settle(() => reject(signal?.reason));
      const timer = setTimeout(expire, timeoutMs);
      signal?.addEventListener("abort", abort);
      if (current?.active && connection.isReady) write(current);
      else ready().then(write, fail);
    });
  }

  async function sendAlone(envelope: Envelope, body: Buffer, signal: AbortSignal | undefined): Promise<void> {
    const before = previous;
    const turn = Promise.withResolvers<void>();
    previous = turn.promise;
    try {
      await before;
      await send(envelope, body, signal);
      careful = Math.max(0, careful - 1);
    } catch (error) {
      // Alone on the channel that the broker has closed: it is this one that it does not take.
      throw isBusOutage(error) && closesChannel(error.cause) ? refused("the broker refused the event", error) : error;
    } finally {
      turn.resolve();
    }
  }

  return {
    async send(envelope, body, signal) {
      signal?.throwIfAborted();
      if (closed) throw busUnavailable("the event bus is closed");
      if (unconfirmed >= MOST_UNCONFIRMED || unconfirmedBytes >= MOST_UNCONFIRMED_BYTES) {
        throw busUnavailable("too many events wait for their confirmation");
      }
      if (careful === 0) await send(envelope, body, signal);
      else await sendAlone(envelope, body, signal);
    },
    get unconfirmed() {
      return unconfirmed;
    },
    async close(closeTimeoutMs) {
      closed = true;
      const { promise, resolve } = Promise.withResolvers<void>();
      emptied.add(resolve);
      if (unconfirmed === 0) resolve();
      await bounded(promise, closeTimeoutMs);
      if (current !== undefined) await bounded(current.close(), closeTimeoutMs);
    },
  };
}

function flightKey({ messageId, exchange, routingKey }: Envelope | ReturnedMessage): string {
  return `${messageId} ${exchange} ${routingKey}`;
}

/** Whether the broker has closed the channel for what was published on it, such as one message larger than it takes. */
function closesChannel(error: unknown): boolean {
  return codeOf(error) === "PRECONDITION_FAILED";
}

function publishError(error: unknown): unknown {
  if (isBusOutage(error)) return error;
  if (codeOf(error) === "NACK") return refused("the broker refused the event", error);
  return busUnavailable("the event could not be published", error);
}

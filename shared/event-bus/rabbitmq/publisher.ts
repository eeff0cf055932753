import type { Channel, Envelope, ReturnedMessage } from "rabbitmq-client";
import { DomainError } from "#shared/errors";
import { bounded } from "#shared/timing";
import { busUnavailable, isBusOutage, notConfirmed, refused, unroutable } from "../errors.ts";
import { createReturnsBarrier, receivedBytesOf } from "./client-workarounds.ts";
import { type BrokerConnection, codeOf } from "./connection.ts";
import { createSizeLimits } from "./size-limits.ts";

/** Publishes with the broker's confirmation. */
export interface Publisher {
  /**
   * Resolves when the message is stored in every queue that takes it.
   *
   * @throws DomainError EVENT_BUS_UNAVAILABLE (it may be stored all the same), EVENT_UNROUTABLE, EVENT_REFUSED;
   *   EVENT_TOO_LARGE when the broker takes no message of this size; EVENT_NOT_CONFIRMED when the link is too slow for it
   */
  send(envelope: Envelope, body: Buffer, signal?: AbortSignal): Promise<void>;
  /** Number of messages that wait for their confirmation, or for a channel. */
  readonly unconfirmed: number;
  /** Waits for the confirmations, at most `timeoutMs`, and closes its channel. */
  close(timeoutMs: number): Promise<void>;
}

export interface PublisherOptions {
  readonly connection: BrokerConnection;
  /** Called on each new channel, before its first message. */
  readonly prepare: (channel: Channel) => Promise<void>;
  /** Maximum time from `send` to the confirmation, and as much again for each MiB that is to be confirmed until then. */
  readonly timeoutMs: number;
  /** What all publishers of the connection have in flight. Default: what this one has. */
  readonly load?: ConnectionLoad;
}

/** What waits to be confirmed on one connection. */
export interface ConnectionLoad {
  bytes: number;
}

const MIB = 1024 * 1024;
/** More are refused at once, so that callers that do not wait cannot fill the memory. */
const MAX_UNCONFIRMED = 10_000;
const MAX_UNCONFIRMED_BYTES = 128 * MIB;
/** Number of messages that go out one by one after the broker has closed the channel because of one of them. */
const ONE_BY_ONE = 500;

/** A message in flight, or copies of it to the same place. */
interface Flight {
  copies: number;
  returned: boolean;
}

export function createPublisher(options: PublisherOptions): Publisher {
  const { connection, prepare, timeoutMs, load = { bytes: 0 } } = options;
  const flights = new Map<string, Flight>();
  const afterReturns = createReturnsBarrier();
  const sizes = createSizeLimits();
  const emptied = new Set<() => void>();
  let current: Channel | undefined;
  let opening: Promise<Channel> | undefined;
  let unconfirmed = 0;
  /** Number of messages that are still to go out one by one, which shows the one that the broker does not take. */
  let oneByOne = 0;
  let previous: Promise<unknown> = Promise.resolve();
  let waitingForTurn = 0;
  let closed = false;

  async function open(): Promise<Channel> {
    await connection.ready(AbortSignal.timeout(timeoutMs));
    // The connection was only blocked, or another channel came first.
    if (current?.active) return current;
    const channel = await connection.channel();
    channel.on("basic.return", onReturn);
    channel.once("close", () => discard(channel));
    // The promise of a message that is still being written does not say why the broker has closed the channel.
    channel.once("error", noteRefusal);
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

  function noteRefusal(error: unknown): void {
    if (codeOf(error) === "PRECONDITION_FAILED" && !sizes.learn(error)) oneByOne = ONE_BY_ONE;
  }

  function onReturn(message: ReturnedMessage): void {
    const flight = flights.get(flightKey(message));
    if (flight !== undefined) flight.returned = true;
  }

  function register(envelope: Envelope): Flight {
    const key = flightKey(envelope);
    const flight = flights.get(key) ?? { copies: 0, returned: false };
    flight.copies++;
    flights.set(key, flight);
    return flight;
  }

  function unregister(envelope: Envelope, flight: Flight): void {
    if (--flight.copies === 0) flights.delete(flightKey(envelope));
  }

  function send(envelope: Envelope, body: Buffer, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      let settled = false;
      let written: Channel | undefined;
      let received = 0;
      unconfirmed++;
      load.bytes += body.length;
      const allowedMs = timeoutMs * (1 + Math.floor(load.bytes / MIB));

      function settle(finish: () => void): void {
        if (settled) return;
        settled = true;
        unconfirmed--;
        load.bytes -= body.length;
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        finish();
        if (unconfirmed === 0) for (const done of emptied) done();
      }

      function fail(error: unknown): void {
        settle(() => reject(publishError(error)));
      }

      function expire(): void {
        const isAlive = written !== undefined && connection.isReady && receivedBytesOf(written) > received;
        // A channel that owes confirmations keeps them in memory for ever: the next message gets a new one.
        if (written !== undefined && written === current && connection.isReady) {
          discard(written);
          void written.close();
        }
        if (isAlive && body.length >= MIB) fail(notConfirmed(body.length, allowedMs));
        else fail(busUnavailable(`not confirmed within ${allowedMs} ms`));
      }

      function write(channel: Channel): void {
        // Too late: its sender has given up, and will send it again.
        if (settled) return;
        const fault = sizes.faultOf(envelope, body, channel);
        if (fault !== undefined) {
          fail(fault);
          return;
        }
        written = channel;
        received = receivedBytesOf(channel);
        const flight = register(envelope);
        connection.writeTogether();
        channel.basicPublish(envelope, body).then(
          () => {
            afterReturns(() => {
              const { returned } = flight;
              unregister(envelope, flight);
              settle(() => (returned ? reject(unroutable(envelope.routingKey ?? "")) : resolve()));
            });
          },
          (error: unknown) => {
            unregister(envelope, flight);
            noteRefusal(error);
            fail(sizes.faultOf(envelope, body, channel) ?? error);
          },
        );
      }

      const abort = () => settle(() => reject(signal?.reason));
      const timer = setTimeout(expire, allowedMs);
      signal?.addEventListener("abort", abort);
      if (current?.active && connection.isReady) write(current);
      else ready().then(write, fail);
    });
  }

  /** Waits for its turn as long as for a confirmation. */
  async function sendAlone(envelope: Envelope, body: Buffer, signal: AbortSignal | undefined): Promise<void> {
    if (waitingForTurn >= MAX_UNCONFIRMED) throw busUnavailable("too many events wait for their confirmation");
    const before = previous;
    const turn = Promise.withResolvers<void>();
    previous = turn.promise;
    waitingForTurn++;
    try {
      const { kind } = await bounded(before, timeoutMs, signal).finally(() => waitingForTurn--);
      signal?.throwIfAborted();
      if (kind === "overran") throw busUnavailable(`not sent within ${timeoutMs} ms`);
      await send(envelope, body, signal);
    } catch (error) {
      // It was alone on the channel that the broker has closed.
      const isRefused = isBusOutage(error) && codeOf(error.cause) === "PRECONDITION_FAILED";
      throw isRefused ? refused("the broker refused the event", error) : error;
    } finally {
      oneByOne = Math.max(0, oneByOne - 1);
      // The next one's turn comes after the one before this, too, when this has given up waiting.
      void before.then(() => turn.resolve());
    }
  }

  return {
    async send(envelope, body, signal) {
      signal?.throwIfAborted();
      if (closed) throw busUnavailable("the event bus is closed");
      if (unconfirmed >= MAX_UNCONFIRMED || load.bytes >= MAX_UNCONFIRMED_BYTES) {
        throw busUnavailable("too many events wait for their confirmation");
      }
      if (oneByOne === 0) await send(envelope, body, signal);
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

function publishError(error: unknown): unknown {
  if (error instanceof DomainError) return error;
  if (codeOf(error) === "NACK") return refused("the broker refused the event", error);
  return busUnavailable("the event could not be published", error);
}

import type { Channel, Envelope } from "rabbitmq-client";
import { DomainError } from "#shared/errors";
import { bounded } from "#shared/timing";
import { busUnavailable, isBusOutage, notConfirmed, refused, unroutable } from "../errors.ts";
import { type Confirmation, publish, receivedBytesOf } from "./client-workarounds.ts";
import { type BrokerConnection, codeOf } from "./connection.ts";
import { createFlights, type Flight } from "./flights.ts";
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

/** A message that has been sent and not confirmed, or that waits for a channel. */
interface MessageFlight extends Flight, Confirmation {
  readonly body: Buffer;
  readonly allowedMs: number;
  /** The channel that it was written to. */
  channel: Channel | undefined;
  /** Of a large message: number of bytes that had come from the broker when it was written. */
  received: number;
}

export function createPublisher(options: PublisherOptions): Publisher {
  const { connection, prepare, timeoutMs, load = { bytes: 0 } } = options;
  const flights = createFlights<MessageFlight>(expire, ({ signal, reject }) => reject(signal?.reason));
  const sizes = createSizeLimits();
  const emptied = new Set<() => void>();
  let current: Channel | undefined;
  let opening: Promise<Channel> | undefined;
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

  function send(envelope: Envelope, body: Buffer, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    load.bytes += body.length;
    const allowedMs = timeoutMs * (1 + Math.floor(load.bytes / MIB));
    const flight: MessageFlight = {
      envelope,
      body,
      signal,
      allowedMs,
      expiresAt: performance.now() + allowedMs,
      channel: undefined,
      received: 0,
      returned: false,
      resolve() {
        if (!end(flight)) return;
        if (flight.returned) reject(unroutable(envelope.routingKey ?? ""));
        else resolve();
      },
      reject(error) {
        noteRefusal(error);
        if (end(flight)) reject(signal?.aborted ? signal.reason : publishError(sizes.faultOf(body) ?? error));
      },
    };
    flights.add(flight);
    if (current?.active && connection.isReady) write(flight, current);
    else
      ready().then(
        (channel) => write(flight, channel),
        (error: unknown) => flight.reject(error),
      );
    return promise;
  }

  /** @returns false when it has ended before */
  function end(flight: MessageFlight): boolean {
    if (!flights.remove(flight)) return false;
    load.bytes -= flight.body.length;
    if (flights.size === 0) for (const done of emptied) done();
    return true;
  }

  function write(flight: MessageFlight, channel: Channel): void {
    // Too late: its sender has given up, and will send it again.
    if (!flights.has(flight)) return;
    const { body } = flight;
    try {
      const fault = sizes.faultOf(body);
      if (fault !== undefined) throw fault;
      flight.channel = channel;
      if (body.length >= MIB) flight.received = receivedBytesOf(channel);
      connection.writeTogether();
      publish(channel, body, flight);
    } catch (error) {
      flight.reject(error);
    }
  }

  function expire({ channel, received, body, allowedMs, reject }: MessageFlight): void {
    const isSlow =
      body.length >= MIB && channel !== undefined && connection.isReady && receivedBytesOf(channel) > received;
    // A channel that owes confirmations keeps them in memory for ever: the next message gets a new one.
    if (channel !== undefined && channel === current && connection.isReady) {
      discard(channel);
      void channel.close();
    }
    reject(isSlow ? notConfirmed(body.length, allowedMs) : busUnavailable(`not confirmed within ${allowedMs} ms`));
  }

  /** Waits for its turn as long as for a confirmation. */
  async function sendAlone(envelope: Envelope, body: Buffer, signal: AbortSignal | undefined): Promise<void> {
    if (waitingForTurn >= MAX_UNCONFIRMED) throw tooMany();
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
    send(envelope, body, signal) {
      if (signal?.aborted) return Promise.reject(signal.reason);
      if (closed) return Promise.reject(busUnavailable("the event bus is closed"));
      if (flights.size >= MAX_UNCONFIRMED || load.bytes >= MAX_UNCONFIRMED_BYTES) return Promise.reject(tooMany());
      return oneByOne === 0 ? send(envelope, body, signal) : sendAlone(envelope, body, signal);
    },
    get unconfirmed() {
      return flights.size;
    },
    async close(closeTimeoutMs) {
      closed = true;
      const { promise, resolve } = Promise.withResolvers<void>();
      emptied.add(resolve);
      if (flights.size === 0) resolve();
      await bounded(promise, closeTimeoutMs);
      if (current !== undefined) await bounded(current.close(), closeTimeoutMs);
    },
  };
}

function tooMany(): DomainError {
  return busUnavailable("too many events wait for their confirmation");
}

function publishError(error: unknown): unknown {
  if (error instanceof DomainError || error instanceof TypeError) return error;
  if (codeOf(error) === "NACK") return refused("the broker refused the event", error);
  return busUnavailable("the event could not be published", error);
}

// Everything that Meridian changes in rabbitmq-client or knows of its inside (version 5.0.8; the test beside this file fails
// when another version behaves otherwise). Only connections made here are changed, and each object on its own:
// an application's other connections stay as they are.
//
// 1. The client decodes headers with loss, and a table that it cannot decode (nested too deeply, of an unknown type) ends the
//    connection, again after each redelivery. So the properties are hidden from it and decoded here; their bytes are kept.
// 2. It parses bodies of JSON and text. So the content type is hidden from it until the body is there.
// 3. It encodes headers anew. So messages are encoded here, a moved one with the content header that it came with.
// 4. Its channels use the frame size that was asked for, not the negotiated one.
// 5. It makes a system call for each message and acknowledgement, of several pieces each. So what is written in one turn goes
//    out together, as one piece.
// 6. It counts a message as published some microtasks after it is written, and makes several promises for each. So the
//    confirmation is entered in its list at once.
// 7. It reports a returned message later than its confirmation. So the return is noted when its header comes.

import type { Writable } from "node:stream";
import {
  type AsyncMessage,
  type Channel,
  Connection,
  type ConnectionOptions,
  type Envelope,
  type SyncMessage,
} from "rabbitmq-client";
import { busUnavailable } from "../errors.ts";
import { type ContentHeader, decodeProperties, FLAGS_AT } from "./content-header.ts";
import { encodeMessage } from "./message-frames.ts";

/** What is used of the inside of a connection. */
interface ConnectionInternals {
  readonly _socket: SocketInternals;
  readonly _opt: { frameMax: number };
  readonly _state: { readonly frameMax: number };
  _handleChunk(frame: Frame | undefined): void;
}
interface SocketInternals {
  readonly bytesRead: number;
  readonly writableNeedDrain: boolean;
  read(size?: number): Buffer | null;
  write(bytes: Buffer): boolean;
  cork(): void;
  uncork(): void;
  _write(bytes: Buffer, encoding: "buffer", callback: Written): void;
  _writev(pieces: readonly { readonly chunk: Buffer }[], callback: Written): void;
}
type Written = (error?: Error | null) => void;
interface Frame {
  readonly type: number;
  fields?: object;
}
interface ChannelInternals {
  readonly _conn: ConnectionInternals;
  readonly _state: {
    readonly maxFrameSize: number;
    /** By delivery tag. */
    readonly unconfirmed: Map<number, Confirmation>;
    /** The delivery tag of the next message. */
    deliveryCount: number;
    readonly incoming?: { readonly methodFrame: { readonly methodId: number; readonly params: Address } };
    /** Takes iterators of frames, and writes them as fast as the socket takes them. */
    readonly stream: Writable;
  };
  _onHeader(frame: Frame): void;
}
type Address = Pick<Envelope, "messageId" | "exchange" | "routingKey">;

/** A message that waits for the broker's confirmation. */
export interface Confirmation {
  readonly envelope: Envelope;
  /** Whether the broker has sent the message back; known when it confirms it. */
  returned: boolean;
  resolve(): void;
  reject(error: unknown): void;
}

const HEADER_FRAME = 2;
const BASIC_RETURN = 0x003c_0032;
/** RabbitMQ's default. The headers of a message have to fit into one frame. */
export const DEFAULT_FRAME_BYTES = 128 * 1024;

const CONTENT_HEADER = Symbol("content header");

/** The content header that a received message came with; undefined when the client's inside is not as expected. */
export function contentHeaderOf(message: object): ContentHeader | undefined {
  return (message as { readonly [CONTENT_HEADER]?: ContentHeader })[CONTENT_HEADER];
}

/** Has a message published with this content header, instead of one made of the envelope. */
export function withContentHeader(envelope: Envelope, payload: Buffer): Envelope {
  return Object.assign(envelope, { [CONTENT_HEADER]: { payload } });
}

/** Maximum size of a frame, in bytes, as it was negotiated for the channel's connection. */
export function frameMaxOf(channel: Channel): number {
  const { _state: state } = channel as unknown as Partial<ChannelInternals>;
  return state?.maxFrameSize ?? DEFAULT_FRAME_BYTES;
}

/** Number of bytes that have come from the broker by the channel's connection, its heartbeats among them. */
export function receivedBytesOf(channel: Channel): number {
  const { _conn: connection } = channel as unknown as Partial<ChannelInternals>;
  return connection?._socket.bytesRead ?? 0;
}

/**
 * Opens a connection whose channels hand out bodies as Buffers and keep each message's content header.
 *
 * @param onMismatch called once in a process when the client's inside is not as expected: the client decodes messages then,
 *   and those that it decodes with loss can only be dead-lettered by the broker
 */
export function createClient(options: ConnectionOptions, onMismatch: () => void = () => {}): Connection {
  const rabbit = new Connection({ frameMax: DEFAULT_FRAME_BYTES, noDelay: true, ...options });
  const internals = rabbit as unknown as ConnectionInternals;
  /** The payload of the frame that was read last, if it is a content header. */
  let payload: Buffer | undefined;
  let isAdapted = true;

  function giveUp(): void {
    isAdapted = false;
    if (!isMismatchReported) onMismatch();
    isMismatchReported = true;
  }

  rabbit.on("connection", () => {
    payload = undefined;
    if (!isAsExpected(internals)) return giveUp();
    internals._opt.frameMax = internals._state.frameMax;
    writeAsOnePiece(internals._socket);
    hideProperties(internals._socket, (bytes) => {
      if (isAdapted) payload = bytes;
      return isAdapted;
    });
  });

  const handleChunk = internals._handleChunk;
  internals._handleChunk = (frame) => {
    if (frame?.type === HEADER_FRAME && payload !== undefined) {
      const { contentType, ...fields } = decodeProperties(payload);
      const header = { payload, frameMax: internals._state.frameMax, contentType };
      frame.fields = Object.assign(fields, { [CONTENT_HEADER]: header });
      payload = undefined;
    }
    handleChunk.call(rabbit, frame);
  };

  const acquire = rabbit.acquire;
  rabbit.acquire = async (acquireOptions) => {
    const channel = await acquire.call(rabbit, acquireOptions);
    if (!adapt(channel)) {
      giveUp();
      noteLateReturns(channel);
    }
    return channel;
  };
  return rabbit;
}

let isMismatchReported = false;

function isAsExpected({ _socket, _opt, _state, _handleChunk }: Partial<ConnectionInternals>): boolean {
  return (
    typeof _socket?.read === "function" &&
    typeof _socket._write === "function" &&
    typeof _opt?.frameMax === "number" &&
    typeof _state?.frameMax === "number" &&
    typeof _handleChunk === "function"
  );
}

/** The client reads a frame's head, then its payload with the octet at its end. It is shown content headers without flags. */
function hideProperties(socket: SocketInternals, isHidden: (payload: Buffer) => boolean): void {
  const read = socket.read;
  let next: "head" | "content header" | "payload" = "head";
  socket.read = (size) => {
    const bytes = read.call(socket, size);
    if (bytes === null) return bytes;
    if (next === "content header" && isHidden(Buffer.from(bytes.subarray(0, -1)))) bytes.writeUInt16BE(0, FLAGS_AT);
    next = next !== "head" ? "head" : bytes[0] === HEADER_FRAME ? "content header" : "payload";
    return bytes;
  };
}

/** Channels whose inside is as expected. */
const adapted = new WeakSet<Channel>();

/** @returns false when the channel's inside is not as expected */
function adapt(channel: Channel): boolean {
  const { basicConsume, basicGet } = channel;
  const internals = channel as unknown as ChannelInternals;
  const { _state: state, _onHeader: onHeader } = internals;
  if (!isChannelAsExpected(internals)) return false;
  adapted.add(channel);
  channel.basicConsume = (params, handle) =>
    basicConsume.call(channel, params, (message) => handle(withContentType(message)));
  channel.basicGet = async (params) => withContentType(await basicGet.call(channel, params as string));
  internals._onHeader = (frame) => {
    const method = state.incoming?.methodFrame;
    if (method?.methodId === BASIC_RETURN)
      noteReturn(state.unconfirmed.values(), { ...frame.fields, ...method.params });
    onHeader.call(channel, frame);
  };
  return true;
}

function isChannelAsExpected({ _conn, _state: state, _onHeader }: Partial<ChannelInternals>): boolean {
  return (
    typeof _conn?._socket?.write === "function" &&
    typeof _onHeader === "function" &&
    typeof state?.maxFrameSize === "number" &&
    state.deliveryCount === 1 &&
    state.unconfirmed instanceof Map &&
    typeof state.stream?.writableLength === "number"
  );
}

/**
 * Publishes a message on a channel in confirm mode. All messages of a channel have to be published by it, since the client
 * gives its own their delivery tags later.
 *
 * @throws DomainError EVENT_TOO_LARGE when the headers do not fit into a frame, EVENT_BUS_UNAVAILABLE when the channel is
 *   closed; then nothing is written
 */
export function publish(channel: Channel, body: Buffer, confirmation: Confirmation): void {
  if (!channel.active) throw busUnavailable("the channel is closed");
  const { envelope } = confirmation;
  const header = contentHeaderOf(envelope)?.payload;
  const { head, rest } = encodeMessage(channel.id, envelope, body, frameMaxOf(channel), header);
  if (!adapted.has(channel)) {
    publishByClient(channel, body, confirmation);
    return;
  }
  const { _conn: connection, _state: state } = channel as unknown as ChannelInternals;
  const { stream } = state;
  state.unconfirmed.set(state.deliveryCount++, confirmation);
  // Behind what still waits for the socket.
  const isNext = stream.writableLength === 0 && !connection._socket.writableNeedDrain;
  if (rest === undefined && isNext) connection._socket.write(head);
  else stream.write(framesOf(head, rest));
}

function* framesOf(head: Buffer, rest: Iterator<Buffer> | undefined): Generator<Buffer> {
  yield head;
  for (let next = rest?.next(); next?.done === false; next = rest?.next()) yield next.value;
}

/** Messages in flight on channels whose inside is not as expected. */
const unconfirmedByClient = new WeakMap<Channel, Set<Confirmation>>();

function noteLateReturns(channel: Channel): void {
  const unconfirmed = new Set<Confirmation>();
  unconfirmedByClient.set(channel, unconfirmed);
  channel.on("basic.return", (message) => noteReturn(unconfirmed, message));
}

function publishByClient(channel: Channel, body: Buffer, confirmation: Confirmation): void {
  const unconfirmed = unconfirmedByClient.get(channel);
  unconfirmed?.add(confirmation);
  channel.basicPublish(confirmation.envelope, body).then(
    () => {
      // The client emits returns in an immediate, so later than it resolves confirmations.
      setImmediate(setImmediate, () => {
        unconfirmed?.delete(confirmation);
        confirmation.resolve();
      });
    },
    (error: unknown) => {
      unconfirmed?.delete(confirmation);
      confirmation.reject(error);
    },
  );
}

/** Copies of a message are returned in the order in which they were published. */
function noteReturn(unconfirmed: Iterable<Confirmation>, { messageId, exchange, routingKey }: Address): void {
  for (const confirmation of unconfirmed) {
    const { envelope, returned } = confirmation;
    if (returned || envelope.messageId !== messageId || (envelope.routingKey ?? "") !== routingKey) continue;
    if ((envelope.exchange ?? "") !== exchange) continue;
    confirmation.returned = true;
    return;
  }
}

function withContentType<M extends AsyncMessage | SyncMessage | undefined>(message: M): M {
  const contentType = message === undefined ? undefined : contentHeaderOf(message)?.contentType;
  if (message !== undefined && contentType !== undefined) message.contentType = contentType;
  return message;
}

/** Small pieces take longer to hand over to the system than to copy. */
function writeAsOnePiece(socket: SocketInternals): void {
  socket._writev = (pieces, callback) => {
    socket._write(Buffer.concat(pieces.map(({ chunk }) => chunk)), "buffer", callback);
  };
}

/**
 * Has what is written to the broker in one turn of the event loop go out in one system call. The result is to be called before
 * a write: a call for each message and acknowledgement is half of what they cost.
 */
export function createWriteTogether(rabbit: Connection): () => void {
  let corked = false;

  return () => {
    if (corked) return;
    const { _socket: socket } = rabbit as unknown as Partial<ConnectionInternals>;
    if (typeof socket?.cork !== "function") return;
    corked = true;
    socket.cork();
    // After what was received together has been handled: each message comes in an immediate of its own.
    setImmediate(() => {
      corked = false;
      socket.uncork();
    });
  };
}

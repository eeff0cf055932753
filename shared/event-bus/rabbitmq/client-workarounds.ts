// Everything that Meridian changes in rabbitmq-client or knows of its inside (version 5.0.8; the test beside this file fails
// when another version behaves otherwise). Only connections made here are changed, and each object on its own:
// an application's other connections stay as they are.
//
// 1. The client decodes headers with loss, and a table that it cannot decode (nested too deeply, of an unknown type) ends the
//    connection, again after each redelivery. So the properties are hidden from it and decoded here; their bytes are kept.
// 2. It parses bodies of JSON and text. So the content type is hidden from it until the body is there.
// 3. It encodes headers anew. So a moved message's content header is put in the place of the one that it makes.
// 4. Its channels use the frame size that was asked for, not the negotiated one.
// 5. It makes a system call for each message and acknowledgement. So what is written in one turn goes out together.
// 6. It reports a returned message later than its confirmation.

import {
  type AsyncMessage,
  type Channel,
  Connection,
  type ConnectionOptions,
  type Envelope,
  type SyncMessage,
} from "rabbitmq-client";
import { type ContentHeader, decodeProperties, FLAGS_AT, FRAME_OVERHEAD } from "./content-header.ts";

/** What is used of the inside of a connection. */
interface ConnectionInternals {
  readonly _socket: SocketInternals;
  readonly _opt: { frameMax: number };
  readonly _state: { readonly frameMax: number };
  _handleChunk(frame: Frame | undefined): void;
}
interface SocketInternals {
  readonly bytesRead: number;
  read(size?: number): Buffer | null;
  cork(): void;
  uncork(): void;
}
interface Frame {
  readonly type: number;
  fields?: object;
}
interface ChannelInternals {
  readonly _conn: ConnectionInternals;
  readonly _state: { readonly maxFrameSize: number; readonly stream: { writeAsync(frames: Frames): Promise<void> } };
}
type Frames = Iterator<Buffer>;

const HEADER_FRAME = 2;
const FRAME_END = 206;
/** Of a frame: type, channel, size. */
const FRAME_HEAD_BYTES = 7;
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
    if (!adapt(channel)) giveUp();
    return channel;
  };
  return rabbit;
}

let isMismatchReported = false;

function isAsExpected({ _socket, _opt, _state, _handleChunk }: Partial<ConnectionInternals>): boolean {
  return (
    typeof _socket?.read === "function" &&
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

/** @returns false when the channel's inside is not as expected */
function adapt(channel: Channel): boolean {
  const { basicConsume, basicGet, basicPublish } = channel;
  const { maxFrameSize, stream } = (channel as unknown as Partial<ChannelInternals>)._state ?? {};
  if (typeof maxFrameSize !== "number" || typeof stream?.writeAsync !== "function") return false;
  channel.basicConsume = (params, handle) =>
    basicConsume.call(channel, params, (message) => handle(withContentType(message)));
  channel.basicGet = async (params) => withContentType(await basicGet.call(channel, params as string));
  const writeAsync = stream.writeAsync;
  let replacement: Buffer | undefined;
  stream.writeAsync = (frames) =>
    writeAsync.call(stream, replacement === undefined ? frames : replaceHeaderFrame(frames, replacement));
  channel.basicPublish = (envelope: string | Envelope, body: unknown) => {
    const header = typeof envelope === "string" ? undefined : contentHeaderOf(envelope);
    if (header !== undefined) replacement = headerFrame(channel.id, header.payload, (body as Buffer).length);
    try {
      return basicPublish.call(channel, envelope as Envelope, body);
    } finally {
      replacement = undefined;
    }
  };
  return true;
}

function withContentType<M extends AsyncMessage | SyncMessage | undefined>(message: M): M {
  const contentType = message === undefined ? undefined : contentHeaderOf(message)?.contentType;
  if (message !== undefined && contentType !== undefined) message.contentType = contentType;
  return message;
}

function headerFrame(channelId: number, payload: Buffer, bodySize: number): Buffer {
  const frame = Buffer.alloc(payload.length + FRAME_OVERHEAD);
  frame.writeUInt8(HEADER_FRAME, 0);
  frame.writeUInt16BE(channelId, 1);
  frame.writeUInt32BE(payload.length, 3);
  payload.copy(frame, FRAME_HEAD_BYTES);
  frame.writeBigUInt64BE(BigInt(bodySize), FRAME_HEAD_BYTES + 4);
  frame.writeUInt8(FRAME_END, frame.length - 1);
  return frame;
}

/** The frames of a message: its method, its content header, its body. */
function* replaceHeaderFrame(frames: Frames, header: Buffer): Generator<Buffer> {
  for (let index = 0; ; index++) {
    const { value, done } = frames.next();
    if (done) return;
    yield index === 1 ? header : value;
  }
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

/**
 * Calls back once every `basic.return` that came before is known. The broker sends an unroutable message back and then
 * confirms it; the client emits the return in a `setImmediate`, so later than it resolves the confirmation. Requests of one
 * turn of the event loop share their immediates.
 */
export function createReturnsBarrier(): (callback: () => void) => void {
  let asked: (() => void)[] = [];
  let waiting: (() => void)[] = [];
  let scheduled = false;

  function turn(): void {
    const due = waiting;
    // Asked for before this immediate, and so maybe after another one that still is to run in this round.
    waiting = asked;
    asked = [];
    scheduled = waiting.length > 0;
    if (scheduled) setImmediate(turn);
    for (const callback of due) callback();
  }

  return (callback) => {
    asked.push(callback);
    if (scheduled) return;
    scheduled = true;
    setImmediate(turn);
  };
}

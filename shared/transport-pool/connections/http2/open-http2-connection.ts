import { AsyncResource } from "node:async_hooks";
import { type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { RunningCalls } from "#shared/lifecycle";
import type { ExchangeFailure, RequestHead } from "../exchange.ts";
import { openSocket } from "../socket.ts";
import { describeGoaway, textOf } from "./goaway.ts";
import type { OpenConnection } from "./http2-connection.ts";
import { type ExchangeConnection, Http2Exchange } from "./http2-exchange.ts";
import { createKeepalive } from "./keepalive.ts";

/** How long a connection that is done with waits for the peer to close its side. */
const LINGER_MS = 1_000;
/** Of a header block, as RFC 9113 6.5.2 counts it: each field costs its bytes and 32 more. */
const FIELD_BYTES = 32;
const MAX_SENT_HEADER_BYTES = 64 * 1024;
/** Above it, nghttp2 would fail the session; `assertHeadFits` comes first. */
const MAX_HEADER_BLOCK_BYTES = 2 * MAX_SENT_HEADER_BYTES;
const MAX_RECEIVED_HEADER_BYTES = 64 * 1024;
const MAX_RECEIVED_HEADER_PAIRS = 1_000;
/** SETTINGS frames may have so many entries; node:http2's default. */
const MAX_SETTINGS = 32;
/** PINGs that may be unanswered at a time; node:http2's default. */
const MAX_OUTSTANDING_PINGS = 10;

export const openHttp2Connection: OpenConnection = (options) => {
  const { address, authority, tls, connectTimeoutMs, onReady, onUnusable, onChange } = options;
  const outsideOfCalls = new AsyncResource("Http2Connection");
  const exchanges = new RunningCalls<Http2Exchange>();
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>();
  let isReady = false;
  let isUnusable = false;
  let hasServed = false;
  /** The last stream that the peer has worked on, as its GOAWAY says. */
  let lastProcessed: number | undefined;
  let maxStreams = Number.POSITIVE_INFINITY;
  let maxHeaderBytes = MAX_SENT_HEADER_BYTES;
  let lost: ExchangeFailure | undefined;

  // The socket is ours, since a session that has ended in good order waits for its peer to close, and Node lets nobody
  // end that wait through the session. Its listeners also come before the session's: see `lose`.
  const socket = openSocket({ address, authority, tls, alpn: ["h2"] });
  socket.on("error", lose);
  socket.on("close", () => {
    lose();
    clearTimeout(connectTimer);
    clearTimeout(lingerTimer);
    keepalive.stop();
    resolveClosed();
  });
  const scheme = tls === undefined ? "http" : "https";
  const session = connectHttp2(`${scheme}://${authority}`, {
    createConnection: () => socket,
    // Node ends a session for good that has more than this to send, and never takes off what a reset stream had. What is
    // unsent is bounded by the calls themselves: each has at most its own request.
    maxSessionMemory: Number.MAX_SAFE_INTEGER,
    maxSendHeaderBlockLength: MAX_HEADER_BLOCK_BYTES,
    maxHeaderListPairs: MAX_RECEIVED_HEADER_PAIRS,
    maxOutstandingPings: MAX_OUTSTANDING_PINGS,
    maxSettings: MAX_SETTINGS,
    maxReservedRemoteStreams: 0,
    settings: {
      enablePush: false,
      initialWindowSize: options.streamWindowBytes,
      maxHeaderListSize: MAX_RECEIVED_HEADER_BYTES,
    },
  });
  session.once("connect", () => session.setLocalWindowSize(options.connectionWindowBytes));
  const keepalive = createKeepalive({
    ...options.keepalive,
    hasCalls: () => exchanges.size > 0,
    bytesRead: () => socket.bytesRead,
    ping: (onAnswer) => void (session.destroyed || session.ping((error) => error === null && onAnswer())),
    onChange,
    onDead: () => {
      lose(new Error(`no sign of life within ${options.keepalive.timeoutMs} ms`));
      socket.destroy();
    },
  });
  // There must be a listener as long as there is a session: its errors come even after its end.
  session.on("error", lose);
  session.on("remoteSettings", ({ maxConcurrentStreams = Number.POSITIVE_INFINITY, maxHeaderListSize }) => {
    maxStreams = maxConcurrentStreams;
    maxHeaderBytes = Math.min(maxHeaderListSize ?? MAX_SENT_HEADER_BYTES, MAX_SENT_HEADER_BYTES);
    if (isReady) {
      onChange();
      return;
    }
    clearTimeout(connectTimer);
    if (isUnusable) return;
    isReady = true;
    socket.unref();
    onReady();
  });
  session.on("goaway", (code: number, lastStreamId: number, data?: NodeJS.ArrayBufferView) => {
    lastProcessed = lastStreamId;
    if (code === constants.NGHTTP2_ENHANCE_YOUR_CALM && textOf(data) === "too_many_pings") options.onTooManyPings();
    // NO_ERROR: Node closes the session, and that lets open streams finish. Else it destroys it.
    if (code === constants.NGHTTP2_NO_ERROR) {
      failUnsent(new Error("the peer closed the connection"));
      leave();
    } else lose(new Error(`the peer sent GOAWAY with ${describeGoaway(code, data)}`));
  });
  const connectTimer = setTimeout(() => {
    const error = new Error(`no HTTP/2 connection within ${connectTimeoutMs} ms`);
    lose(error);
    socket.destroy();
  }, connectTimeoutMs);
  connectTimer.unref();
  let lingerTimer: NodeJS.Timeout | undefined;

  function leave(cause?: Error): void {
    if (isUnusable) return;
    isUnusable = true;
    onUnusable(cause);
    lingerWhenDone();
  }

  /**
   * The connection is gone. Must come before Node's own handling, which resets the streams with a code that does not say
   * why.
   */
  function lose(cause?: Error): void {
    if (lost !== undefined) return;
    const reason = cause ?? new Error("the peer closed the connection");
    lost = { kind: "disconnected", isProcessed: true, cause: reason };
    // An end without a cause is orderly, unless it is the response to the first SYN, or cuts off calls.
    leave(cause ?? (isReady && exchanges.size === 0 ? undefined : reason));
    failUnsent(reason);
    for (const exchange of exchanges) exchange.fail(lost);
  }

  /** Calls whose HEADERS still wait to be written when a GOAWAY comes: Node neither sends them nor says so. */
  function failUnsent(cause: Error): void {
    for (const exchange of exchanges) {
      if (exchange.isUnsent()) exchange.fail({ kind: "goaway", isProcessed: false, cause });
    }
  }

  function lingerWhenDone(): void {
    if (!isUnusable || exchanges.size > 0 || lingerTimer !== undefined) return;
    lingerTimer = setTimeout(() => socket.destroy(), LINGER_MS);
    lingerTimer.unref();
  }

  function openStream({ method, path, headers }: RequestHead): ClientHttp2Stream {
    const pseudo = [":method", method, ":path", path, ":authority", authority, ":scheme", scheme];
    const all = pseudo.concat(headers);
    assertHeadFits(all, maxHeaderBytes);
    // V8 keeps streams through several collections: they must not keep their calls.
    return outsideOfCalls.runInAsyncScope(session.request, session, all);
  }

  function isGone(): boolean {
    if (!isUnusable && !session.closed && !session.destroyed) return false;
    leave();
    return true;
  }

  /** Whether the new stream can get as far as the wire: else it is out of stream ids, or the session broke over it. */
  function hasBegun(stream: ClientHttp2Stream): boolean {
    if (!stream.destroyed && !session.destroyed) return true;
    leave();
    session.close();
    return false;
  }

  const connection: ExchangeConnection = {
    lost: () => lost,
    onClose(exchange, rstCode) {
      exchanges.delete(exchange);
      hasServed ||= rstCode === constants.NGHTTP2_NO_ERROR;
      if (exchanges.size === 0) {
        socket.unref();
        lingerWhenDone();
      }
      onChange();
    },
  };

  return {
    open(head, sink) {
      if (isGone()) return undefined;
      const stream = openStream(head);
      if (!hasBegun(stream)) {
        stream.on("error", () => {});
        return undefined;
      }
      const exchange = new Http2Exchange(stream, sink, connection);
      if (exchanges.size === 0) socket.ref();
      exchanges.add(exchange);
      return exchange;
    },
    openStreams: () => exchanges.size,
    hasRoom: () => !isUnusable && exchanges.size < maxStreams,
    wasUseful: () => hasServed || (lastProcessed ?? exchanges.size) > 0,
    isResponsive: () => keepalive.isResponsive(),
    checkAlive: () => keepalive.check(),
    close() {
      leave();
      if (isReady) session.close();
      else socket.destroy();
    },
    destroy() {
      lost ??= { kind: "closed", isProcessed: true };
      leave();
      for (const exchange of exchanges) exchange.fail(lost);
      session.destroy(undefined, constants.NGHTTP2_CANCEL);
      socket.destroy();
    },
    closed,
  };
};

/** Fails the one call: a peer that gets more than it takes may close the connection, with all the calls on it. */
function assertHeadFits(fields: readonly string[], maxBytes: number): void {
  let bytes = (fields.length / 2) * FIELD_BYTES;
  for (const text of fields) bytes += text.length;
  if (bytes <= maxBytes) return;
  const message = `the request's headers take ${bytes} bytes; at most ${maxBytes} can be sent to this peer`;
  throw new ConnectError(message, Code.ResourceExhausted);
}

import { AsyncResource } from "node:async_hooks";
import { type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { describeError } from "#shared/errors";
import { RunningCalls } from "#shared/lifecycle";
import { unsent } from "../policies/unsent.ts";
import { describeGoaway, textOf } from "./goaway.ts";
import type { OpenConnection } from "./http2-connection.ts";
import { createKeepalive } from "./keepalive.ts";
import { openSocket } from "./socket.ts";
import { type SupervisedStream, superviseStream } from "./supervise-stream.ts";
import { sendUnary, type UnaryExchange } from "./unary-stream.ts";

/** How long a connection that is done with waits for the peer to close its side. */
const LINGER_MS = 1_000;

export const openHttp2Connection: OpenConnection = (options) => {
  const { address, authority, tls, connectTimeoutMs, onReady, onUnusable, onChange } = options;
  const outsideOfCalls = new AsyncResource("Http2Connection");
  const streams = new RunningCalls<SupervisedStream>();
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>();
  let isReady = false;
  let isUnusable = false;
  let hasServed = false;
  /** The last stream that the peer has worked on, as its GOAWAY says. */
  let lastProcessed: number | undefined;
  let maxStreams = Number.POSITIVE_INFINITY;
  let lostError: ConnectError | undefined;

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
    settings: { enablePush: false },
  });
  const keepalive = createKeepalive({
    ...options.keepalive,
    hasCalls: () => streams.size > 0,
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
  session.on("remoteSettings", ({ maxConcurrentStreams = Number.POSITIVE_INFINITY }) => {
    maxStreams = maxConcurrentStreams;
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
      failUnsent("the peer closed the connection");
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
   * The connection is gone. Has to come before Node's own handling, which resets the streams so that nobody can tell
   * why.
   */
  function lose(cause?: Error): void {
    if (lostError !== undefined) return;
    const reason = cause === undefined ? "the peer closed the connection" : describeError(cause);
    lostError = new ConnectError(`connection lost: ${reason}`, Code.Unavailable, undefined, undefined, cause);
    // An end without a cause is orderly, unless it is the answer to the first SYN, or cuts off calls.
    leave(cause ?? (isReady && streams.size === 0 ? undefined : new Error(reason)));
    failUnsent(reason, cause);
    for (const stream of streams) stream.fail(lostError);
  }

  /** Streams whose HEADERS still wait to be written when a GOAWAY comes: Node neither sends them nor says so. */
  function failUnsent(reason: string, cause?: Error): void {
    for (const stream of streams) {
      if (stream.isUnsent()) stream.fail(unsent("unsent", `${reason} before the call was sent`, cause));
    }
  }

  function lingerWhenDone(): void {
    if (!isUnusable || streams.size > 0 || lingerTimer !== undefined) return;
    lingerTimer = setTimeout(() => socket.destroy(), LINGER_MS);
    lingerTimer.unref();
  }

  function openUnary({ method, path, headers }: UnaryExchange): ClientHttp2Stream {
    const pseudo = [":method", method, ":path", path, ":authority", authority, ":scheme", scheme];
    // V8 keeps streams through several collections: they must not keep their calls.
    return outsideOfCalls.runInAsyncScope(session.request, session, pseudo.concat(headers));
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

  function added(stream: SupervisedStream): void {
    if (streams.size === 0) socket.ref();
    streams.add(stream);
  }

  function removed(stream: SupervisedStream, rstCode: number | undefined): void {
    streams.delete(stream);
    hasServed ||= rstCode === constants.NGHTTP2_NO_ERROR;
    if (streams.size === 0) {
      socket.unref();
      lingerWhenDone();
    }
    onChange();
  }

  const getLost = () => lostError;
  const unaryOptions = { lost: getLost, onClose: removed };

  return {
    request(headers, requestOptions, signal) {
      if (isGone()) return undefined;
      // Node's own has no brackets around an IPv6 address, and a stock Connect server dies of that.
      const stream = session.request({ ":authority": authority, ":scheme": scheme, ...headers }, requestOptions);
      const supervised = superviseStream(stream, { signal, lost: getLost });
      if (!hasBegun(stream)) return undefined;
      added(supervised);
      stream.once("close", () => removed(supervised, stream.rstCode));
      return stream;
    },
    send(exchange) {
      if (isGone()) return undefined;
      const stream = openUnary(exchange);
      if (!hasBegun(stream)) {
        stream.on("error", () => {});
        return undefined;
      }
      const supervised = sendUnary(stream, exchange, unaryOptions);
      added(supervised);
      return supervised;
    },
    openStreams: () => streams.size,
    hasRoom: () => !isUnusable && streams.size < maxStreams,
    wasUseful: () => hasServed || (lastProcessed ?? streams.size) > 0,
    isResponsive: () => keepalive.isResponsive(),
    checkAlive: () => keepalive.check(),
    close() {
      leave();
      if (isReady) session.close();
      else socket.destroy();
    },
    destroy(error) {
      lostError ??= error;
      leave();
      for (const stream of streams) stream.fail(error);
      session.destroy(undefined, constants.NGHTTP2_CANCEL);
      socket.destroy();
    },
    closed,
  };
};

import { readFile } from "node:fs/promises";
import * as http from "node:http";
import * as https from "node:https";
import { describeError } from "#shared/errors";
import { jsonLines } from "./json-lines.ts";
import { RegistryError } from "./registry-error.ts";

export interface HttpRequest {
  readonly method: "GET" | "POST" | "PUT";
  /** The registry's address, with or without a path of its own. */
  readonly base: string;
  /** With its query, begins with a slash. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Limit for the whole response; of a stream, for its head. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** PEM files. Read anew for each request, since they may be replaced while the service runs. */
export interface TlsFiles {
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
}

export interface HttpAnswer {
  readonly headers: http.IncomingHttpHeaders;
  /** Parsed JSON; undefined when the body is empty. */
  readonly body: unknown;
}

const MAX_BODY_BYTES = 64 * 1024 * 1024;
const LONGEST_REASON = 200;
/** Idle time before TCP keepalive probes (ten, a second apart) detect a peer that is gone. */
const TCP_KEEPALIVE_MS = 15_000;

/**
 * Sends one request on a connection of its own: requests are rare, and a kept connection may be closed just then.
 *
 * @throws RegistryError on a timeout, a failed connection, a status other than 2xx or a body that is not JSON
 */
export async function request(request: HttpRequest, tls: TlsFiles = {}): Promise<HttpAnswer> {
  return within(request, async (signal) => {
    const response = await open(request, tls, signal);
    const text = await readText(request, response);
    return { headers: response.headers, body: text.trim() === "" ? undefined : parse(request, text) };
  });
}

/**
 * Sends a request whose response is a stream of lines of JSON. The iteration fails when the connection is lost or the
 * signal fires.
 */
export async function stream(request: HttpRequest, tls: TlsFiles = {}): Promise<AsyncIterable<unknown>> {
  const response = await within(request, (signal) => open(request, tls, signal));
  return values(request, response);
}

async function* values(request: HttpRequest, response: http.IncomingMessage): AsyncGenerator<unknown> {
  // The timeout's signal ends with the head; from here on it is the caller's that ends the stream.
  const end = () => void response.destroy(abortError(request.signal));
  request.signal.addEventListener("abort", end);
  if (request.signal.aborted) end();
  try {
    yield* jsonLines(response, MAX_BODY_BYTES);
  } catch (error) {
    if (request.signal.aborted) throw request.signal.reason;
    throw new RegistryError(`${request.base} was lost: ${describeError(error)}`, { cause: error });
  } finally {
    request.signal.removeEventListener("abort", end);
    response.destroy();
  }
}

/** Bounds the work by the request's timeout and signal. */
async function within<T>(request: HttpRequest, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { base, timeoutMs, signal } = request;
  signal.throwIfAborted();
  const bound = new AbortController();
  const end = () => bound.abort(signal.reason);
  const timer = setTimeout(() => bound.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  timer.unref();
  signal.addEventListener("abort", end);
  try {
    return await work(bound.signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof RegistryError) throw error;
    const cause = bound.signal.aborted ? bound.signal.reason : error;
    throw new RegistryError(`${base} cannot be reached: ${describeError(cause)}`, { cause });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

/** Resolves with the head of a response with status 2xx. */
async function open(request: HttpRequest, tls: TlsFiles, signal: AbortSignal): Promise<http.IncomingMessage> {
  const { method, base, path, headers, body } = request;
  const url = new URL(base.replace(/\/$/, "") + path);
  const isSecure = url.protocol === "https:";
  const options: https.RequestOptions = {
    method,
    agent: false,
    headers: {
      accept: "application/json",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(isSecure ? await readTls(tls) : {}),
  };
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  const outgoing = (isSecure ? https : http).request(url, options, resolve);
  const end = () => void outgoing.destroy(abortError(signal));
  outgoing.on("socket", (socket) => socket.setKeepAlive(true, TCP_KEEPALIVE_MS));
  outgoing.on("error", reject);
  outgoing.on("close", () => {
    signal.removeEventListener("abort", end);
    reject(new Error("the connection was closed"));
  });
  signal.addEventListener("abort", end);
  outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  const response = await promise;
  response.on("error", () => {}); // The reader gets it too; without a reader it would be uncaught.
  const { statusCode = 0 } = response;
  if (statusCode >= 200 && statusCode < 300) return response;
  const reason = (await readText(request, response)).trim().slice(0, LONGEST_REASON);
  throw new RegistryError(`${base} answered ${statusCode} to ${method} ${url.pathname}: ${reason}`, {
    status: statusCode,
  });
}

async function readTls({ caFile, certFile, keyFile }: TlsFiles): Promise<https.RequestOptions> {
  return {
    ...(caFile === undefined ? {} : { ca: await readFile(caFile) }),
    ...(certFile === undefined ? {} : { cert: await readFile(certFile) }),
    ...(keyFile === undefined ? {} : { key: await readFile(keyFile) }),
  };
}

async function readText({ base }: HttpRequest, response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new RegistryError(`${base} answered with more than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parse({ base }: HttpRequest, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RegistryError(`${base} answered with what is no JSON`, { cause });
  }
}

function abortError(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error("aborted");
}

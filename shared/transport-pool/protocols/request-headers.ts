import type { UnaryRequest } from "@connectrpc/connect";
import { toRawHeaders } from "./node-headers.ts";
import type { RequestHeaders } from "./wire-format.ts";

/** Headers that are created when they are first read. */
export class RawHeaders {
  /** Names in lower case and values, alternating; each name once. */
  readonly raw: readonly string[];
  made: Headers | undefined;

  constructor(raw: readonly string[], made?: Headers) {
    this.raw = raw;
    this.made = made;
  }
}

/** Where a request has its own. */
export const rawHeaders = Symbol("raw headers");

/** Headers of which none belongs to a protocol: each name once, in lower case. */
export type HeaderPairs = [name: string, value: string][];

/** The headers of a call: the protocol's, and the caller's own. */
export function requestHeadersOf(
  { header: fixed, timeout }: RequestHeaders,
  own: ConstructorParameters<typeof Headers>[0] | HeaderPairs,
  timeoutMs: number | undefined,
): RawHeaders {
  const raw = fixed.slice();
  if (timeoutMs !== undefined) raw.push(timeout.name, `${timeoutMs}${timeout.suffix}`);
  if (Array.isArray(own)) {
    for (const [name, value] of own) raw.push(name, value);
    return new RawHeaders(raw);
  }
  const made = new Headers(own);
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? "";
    if (name !== "user-agent" || !made.has(name)) made.set(name, raw[index + 1] ?? "");
  }
  return new RawHeaders(raw, made);
}

export function readHeaders(lazy: RawHeaders): Headers {
  lazy.made ??= makeHeaders(lazy.raw);
  return lazy.made;
}

/**
 * The headers to send, without `omit`. A request whose headers were replaced has had its own made: the spread of a request
 * reads them all, and so does an assignment.
 */
export function rawHeadersOf(request: Pick<UnaryRequest, "header">, omit: string | undefined): readonly string[] {
  // A request made of another by its prototype may have headers of its own.
  const lazy = Object.hasOwn(request, rawHeaders)
    ? (request as { readonly [rawHeaders]?: RawHeaders })[rawHeaders]
    : undefined;
  return lazy !== undefined && lazy.made === undefined ? lazy.raw : toRawHeaders(request.header, omit);
}

function makeHeaders(raw: readonly string[]): Headers {
  const header = new Headers();
  for (let index = 0; index < raw.length; index += 2) header.set(raw[index] ?? "", raw[index + 1] ?? "");
  return header;
}

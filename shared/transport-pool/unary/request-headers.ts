import type { UnaryRequest } from "@connectrpc/connect";
import { toRawHeaders } from "./node-headers.ts";

/** Headers that are not made as long as nobody looks at them. */
export class RawHeaders {
  /** Names and values in turn, each name once. */
  readonly raw: readonly string[];
  /** The Headers, once somebody has looked. */
  made: Headers | undefined;

  constructor(raw: readonly string[], made?: Headers) {
    this.raw = raw;
    this.made = made;
  }
}

/** Where a request has its own. */
export const rawHeaders = Symbol("raw headers");

export function readHeaders(lazy: RawHeaders): Headers {
  lazy.made ??= makeHeaders(lazy.raw);
  return lazy.made;
}

/**
 * What is to be sent, without the header `omit`. Whoever has put other headers in place has had those of before made: the
 * spread of a request reads them all, and so does an assignment.
 */
export function rawHeadersOf(request: Pick<UnaryRequest, "header">, omit: string | undefined): readonly string[] {
  // One that was made of another, by its prototype, may have headers of its own.
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

import { usualHttp1Name } from "./http1-names.ts";
import type { ResponseHeaders } from "./unary-stream.ts";

/** What stands before the body of an answer, and how long that body is. */
export interface Http1Head {
  /** Another head follows it: 100 Continue, 103 Early Hints. */
  readonly isInterim: boolean;
  /** As Node's own client has them: names in lower case, values that came under one name joined. */
  readonly headers: ResponseHeaders;
  /** A number of bytes; or in chunks; or all that comes until the connection closes. */
  readonly body: number | "chunked" | "rest";
  /** Whether the peer takes another request on the connection. */
  readonly isKept: boolean;
  /** How long it waits for that, when it has said so. */
  readonly keptMs: number | undefined;
}

/** The peer does not speak HTTP/1.1: whatever comes after that means nothing. */
export class Http1SyntaxError extends Error {
  override readonly name = "Http1SyntaxError";
}

const ANSWER_BEGIN = "HTTP/1.";
const NO_ANSWER = "it does not begin as an answer of HTTP/1.1 does";
const STATUS_LINE = /^HTTP\/1\.([01]) (\d{3})(?: [^\r\n]*)?$/;
const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;
const NO_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const LENGTH = /^\d{1,15}$/;
const SWITCHING_PROTOCOLS = 101;
const NO_CONTENT = 204;
const NOT_MODIFIED = 304;

/** Of which Node keeps the first value, and drops any further one. */
const SINGLE = new Set(
  (
    "age authorization content-length content-type etag expires from host if-modified-since if-unmodified-since " +
    "last-modified location max-forwards proxy-authorization referer retry-after server user-agent"
  ).split(" "),
);

/**
 * Reads status line and headers (RFC 9112, 4 to 7), as strictly as Node's client does.
 *
 * @param text without the empty line at its end
 * @param isBodiless nothing follows, whatever the headers say: the answer to a HEAD
 * @throws Http1SyntaxError
 */
export function parseHttp1Head(text: string, isBodiless: boolean): Http1Head {
  const lineEnd = endOfLine(text, 0);
  const { minor, status } = parseStatusLine(text.slice(0, lineEnd));
  const headers: ResponseHeaders = Object.assign(Object.create(null), { ":status": status });
  parseHttp1Fields(text, lineEnd + 2, headers);
  if (status === SWITCHING_PROTOCOLS && headers.upgrade !== undefined) {
    throw new Http1SyntaxError("it switches to a protocol that was not asked for");
  }

  const hasNone = isBodiless || (status >= 100 && status < 200) || status === NO_CONTENT || status === NOT_MODIFIED;
  const body = hasNone ? 0 : bodyOf(headers);
  const connection = headers.connection?.toLowerCase();
  const isAsked = minor === "1" ? !hasToken(connection, "close") : hasToken(connection, "keep-alive");
  const keptSeconds = /(?:^|[,\s])timeout=(\d{1,9})/i.exec(String(headers["keep-alive"] ?? ""))?.[1];
  return {
    isInterim: status >= 100 && status < 200 && status !== SWITCHING_PROTOCOLS,
    headers,
    body,
    isKept: isAsked && body !== "rest",
    keptMs: keptSeconds === undefined ? undefined : Number(keptSeconds) * 1_000,
  };
}

/**
 * Looks at a line of a head that is not there as a whole. Whoever does not speak HTTP/1.1 may never send the rest.
 *
 * @throws Http1SyntaxError
 */
export function checkHttp1HeadLine(line: string, isFirst: boolean): void {
  if (isFirst) parseStatusLine(line);
  else parseHttp1Fields(line, 0, {});
}

/** @param text how a head begins, perhaps not more than a byte of it. @throws Http1SyntaxError */
export function checkHttp1Begin(text: string): void {
  if (!ANSWER_BEGIN.startsWith(text.slice(0, ANSWER_BEGIN.length))) throw new Http1SyntaxError(NO_ANSWER);
}

function parseStatusLine(line: string): { readonly minor: string | undefined; readonly status: number } {
  const [, minor, digits] = STATUS_LINE.exec(line) ?? [];
  if (digits === undefined) throw new Http1SyntaxError(NO_ANSWER);
  return { minor, status: Number(digits) };
}

/** Reads the header or trailer lines from `at` on. @throws Http1SyntaxError */
export function parseHttp1Fields(text: string, at: number, headers: Record<string, unknown>): void {
  for (let from = at; from < text.length; ) {
    const end = endOfLine(text, from);
    const colon = text.indexOf(":", from);
    if (colon === -1 || colon >= end) throw new Http1SyntaxError("a header has no colon");
    const name = nameOf(text.slice(from, colon));
    const value = trimmed(text, colon + 1, end);
    if (NO_VALUE.test(value)) throw new Http1SyntaxError(`the header ${name} has a character that it must not have`);
    addField(headers, name, value);
    from = end + 2;
  }
}

/** Without the blanks around it, of which HTTP knows fewer than `trim` does. */
function trimmed(text: string, from: number, to: number): string {
  while (from < to && isBlank(text.charCodeAt(from))) from++;
  while (from < to && isBlank(text.charCodeAt(to - 1))) to--;
  return text.slice(from, to);
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9;
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf("\r\n", from);
  return end === -1 ? text.length : end;
}

function nameOf(written: string): string {
  const usual = usualHttp1Name(written);
  if (usual !== undefined) return usual;
  if (!TOKEN.test(written)) throw new Http1SyntaxError("a header has a name that is none");
  return written.toLowerCase();
}

function addField(headers: Record<string, unknown>, name: string, value: string): void {
  const before = headers[name];
  if (name === "set-cookie") headers[name] = [...((before as string[] | undefined) ?? []), value];
  else if (before === undefined) headers[name] = value;
  else if (name === "content-length" || name === "transfer-encoding") throw new Http1SyntaxError(`it has two ${name}s`);
  else if (!SINGLE.has(name)) headers[name] = `${before}${name === "cookie" ? "; " : ", "}${value}`;
}

/** One that says two things of its length could be read in two ways, by us and by whoever stands between (RFC 9112, 6.3). */
function bodyOf(headers: ResponseHeaders): Http1Head["body"] {
  const encoding = headers["transfer-encoding"];
  const length = headers["content-length"];
  if (encoding !== undefined) {
    if (length !== undefined) throw new Http1SyntaxError("it has a length and a transfer encoding");
    return /(?:^|,)[\t ]*chunked$/i.test(encoding) ? "chunked" : "rest";
  }
  if (length === undefined) return "rest";
  if (!LENGTH.test(length)) throw new Http1SyntaxError("its length is no number");
  return Number(length);
}

function hasToken(list: string | undefined, token: string): boolean {
  if (list === undefined) return false;
  return list === token || list.split(",").some((one) => one.trim() === token);
}

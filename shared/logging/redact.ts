/** Replacement for a secret. */
export const REDACTED = "[redacted]";

/** Matches lines that may contain a secret. Most lines do not, and are not examined further. */
const HINT =
  /passw|passphrase|pwd|secret|token|authorization|cookie|(?:api|private|access)[-_]?key|credential|bearer |:\/\//i;

/** A JSON key, for `isSecretKey` to decide on. An escaped quote, as in JSON inside a string, counts too. */
const KEY = /(\\?")([\w-]{1,64})\1:\s*/g;
const SECRET_KEY =
  /(?:password|passwd|passphrase|pwd|secret|authorization|cookie|apikey|privatekey|secretkey|accesskey|credentials?)$/;
/** Tokens by their full names: `page_token` and its kind are no secrets. */
const TOKEN_KEY = /^(?:x?(?:access|refresh|id|auth|bearer|session|api|csrf|client|user|jwt))?tokens?$/;

/**
 * The user part of a URL. Up to the last @ before the host's end; or, for a password with an unescaped slash in it, up to
 * the last @ of the word, unless what follows the colon is a port. The bound keeps this linear on hostile text.
 */
const URL_USER =
  /:\/\/(?:(?:[^\s"'`<>\\/?#]|\\\\)*|[^\s"'`<>\\/?#:@]{0,256}:(?!\d{1,5}[/?#])(?:[^\s"'`<>\\]|\\\\){0,256})@/g;
const BEARER = /\b(bearer\s+)[\w.~+/=-]+/gi;
/** `password=…` in a query or in PostgreSQL's key=value form. */
const PAIR =
  /\b((?:password|passwd|pwd|secret|client_secret|(?:access_|refresh_|id_)?token|api_?key|authorization)=)[^\s"'\\&;,]+/gi;

/**
 * Takes the secrets out of a finished JSON line: values of keys such as password, token, authorization, cookie, secret
 * and api_key at any depth and in any spelling, credentials in URLs, bearer tokens, `password=…`. It works on the line
 * and not on the objects, so that bindings, messages, stacks and the results of `toJSON` are covered, at any depth, for
 * less than pino's redact paths cost.
 */
export function redactLine(line: string): string {
  if (!HINT.test(line)) return line;
  let safe = redactKeys(line);
  if (safe.includes("://")) safe = safe.replace(URL_USER, `://${REDACTED}@`);
  return safe.replace(BEARER, `$1${REDACTED}`).replace(PAIR, `$1${REDACTED}`);
}

function redactKeys(line: string): string {
  let result = "";
  let from = 0;
  for (const match of line.matchAll(KEY)) {
    const [text, quote = "", key = ""] = match;
    const valueAt = match.index + text.length;
    if (match.index < from || !isSecretKey(key)) continue;
    result += `${line.slice(from, valueAt)}${quote}${REDACTED}${quote}`;
    from = endOfValue(line, valueAt, quote);
  }
  return from === 0 ? line : result + line.slice(from);
}

function isSecretKey(key: string): boolean {
  const plain = key.toLowerCase().replaceAll(/[-_]/g, "");
  return SECRET_KEY.test(plain) || TOKEN_KEY.test(plain);
}

/** Finds the end of the JSON value that begins at `from`; `quote` is the quotation mark at this depth of escaping. */
function endOfValue(line: string, from: number, quote: string): number {
  let depth = 0;
  let i = from;
  while (i < line.length) {
    const character = line[i];
    if (line.startsWith(quote, i)) {
      i = endOfString(line, i + quote.length, quote);
      if (depth === 0) return i;
    } else if (character === "\\") {
      i += 2;
    } else if (character === "{" || character === "[") {
      depth++;
      i++;
    } else if (character === "}" || character === "]") {
      if (depth === 0) return i;
      i++;
      if (--depth === 0) return i;
    } else if (character === '"' || (character === "," && depth === 0)) {
      // A plain quote here ends the string around this value.
      return i;
    } else i++;
  }
  return i;
}

function endOfString(line: string, from: number, quote: string): number {
  const nested = quote.length > 1;
  let i = from;
  while (i < line.length) {
    // In a string within a string, a plain quote ends the outer one: the inner was cut off.
    if (line[i] === '"') return nested ? i : i + 1;
    if (line[i] !== "\\") {
      i++;
      continue;
    }
    if (nested && line[i + 1] === '"') return i + 2;
    // Inside, an escaped backslash escapes what comes next, which may be two characters here.
    const escapesNext = nested && line[i + 1] === "\\";
    i += 2;
    if (escapesNext && line[i] !== '"') i += line[i] === "\\" ? 2 : 1;
  }
  return line.length;
}

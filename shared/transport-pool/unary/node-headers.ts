import type { IncomingHttpHeaders } from "node:http2";

/** Node's headers as Connect gives them to its users: without pseudo-headers, each value of a list appended. */
export function toWebHeaders(headers: IncomingHttpHeaders | undefined): Headers {
  const result = new Headers();
  for (const name in headers) {
    const value: unknown = headers[name];
    if (name.startsWith(":") || value === undefined) continue;
    if (Array.isArray(value)) for (const one of value) result.append(name, String(one));
    else result.append(name, String(value));
  }
  return result;
}

/** Names and values in turn, as Node takes them for a request. */
export function toRawHeaders(header: Headers, omit: string | undefined): string[] {
  const raw: string[] = [];
  header.forEach((value, name) => {
    if (name !== omit) raw.push(name, value);
  });
  return raw;
}

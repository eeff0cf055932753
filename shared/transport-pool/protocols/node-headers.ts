import type { IncomingHttpHeaders } from "node:http2";
import { isTransportHeader, validateField } from "#shared/rpc";

/** Of Connect's own clients, so that its servers see no other. */
export const USER_AGENT = "connect-es/2.2.0";

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

/**
 * Names and values, alternating, without those that belong to the transport, except gRPC's `te: trailers`.
 *
 * @throws TypeError for a value with a character that no header may have
 */
export function toRawHeaders(header: Headers, omit: string | undefined): string[] {
  const raw: string[] = [];
  header.forEach((value, name) => {
    if (name === omit) return;
    if (isTransportHeader(name) && !(name === "te" && value === "trailers")) return;
    validateField(name, value);
    raw.push(name, value);
  });
  return raw;
}

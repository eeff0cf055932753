import { z } from "zod";

const ADDRESS = /^(?:http:\/\/)?(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?):(\d{1,5})\/?$/i;
const EXPECTED = 'expected "host:port", such as localhost:9002, 10.0.0.7:9002 or [::1]:9002';

/**
 * Where a service listens: `host:port` (IPv6 in brackets), with or without `http://` before it. Comes out as
 * `host:port`.
 */
export const addressSchema = z.string().transform((text, context): string => {
  const result = parseAddress(text);
  if ("address" in result) return result.address;
  context.addIssue({ code: "custom", message: result.fault });
  return z.NEVER;
});

/** What HTTP calls the address: `http://localhost:9002`. */
export function originOf(address: string): string {
  return new URL(`http://${address}`).origin;
}

function parseAddress(text: string): { address: string } | { fault: string } {
  if (/^https:/i.test(text)) return { fault: `https is not supported here; ${EXPECTED}` };
  const [, host, port] = ADDRESS.exec(text) ?? [];
  if (host === undefined || port === undefined) return { fault: EXPECTED };
  if (Number(port) < 1 || Number(port) > 65_535) return { fault: "the port must be between 1 and 65535" };
  const address = `${host}:${Number(port)}`;
  // Also refuses what only looks like an IP address.
  return URL.canParse(`http://${address}`) ? { address } : { fault: EXPECTED };
}

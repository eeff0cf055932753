import { isIPv6 } from "node:net";
import { z } from "zod";

export interface HostPort {
  /** IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
}

export interface Fault {
  readonly fault: string;
}

const HOST_PORT = /^(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9])?):(\d{1,5})$/i;

export const EXPECTED_HOST_PORT = 'expected "host:port", such as localhost:9002, 10.0.0.7:9002 or [::1]:9002';

/** `host:port`, IPv6 in brackets. */
export const hostPortSchema = z.string().transform((text, context): string => {
  const result = parseHostPort(text);
  if (!("fault" in result)) return joinHostPort(result.host, result.port);
  context.addIssue({ code: "custom", message: result.fault });
  return z.NEVER;
});

export function parseHostPort(text: string): HostPort | Fault {
  const [, host, port] = HOST_PORT.exec(text) ?? [];
  if (host === undefined || port === undefined) return { fault: EXPECTED_HOST_PORT };
  if (!isPort(Number(port))) return { fault: "the port must be between 1 and 65535" };
  // Also refuses what only looks like an IP address.
  if (!URL.canParse(`http://${host}:${port}`)) return { fault: EXPECTED_HOST_PORT };
  return { host: host.startsWith("[") ? host.slice(1, -1) : host, port: Number(port) };
}

/** Why it cannot be the authority of calls, as the host in their URLs: undefined when it can. */
export function faultOfAuthority(authority: string): string | undefined {
  const host = authority.replace(/:\d+$/, "");
  const name = URL.parse(`http://${authority}`)?.hostname;
  // Of an IPv6 address there are many spellings. A name that reads as another one would go to another host.
  if (name?.startsWith("[") || name === host.toLowerCase()) return undefined;
  const why = "no URL can have it (one whose last part is a number is read as an IPv4 address)";
  return `calls need a host's name, and ${JSON.stringify(host)} cannot be one: ${why}`;
}

export function joinHostPort(host: string, port: number): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}

import type { Socket } from "node:net";

/** Address and port of a connection's other end, `[::1]:50051` in IPv6. */
export function peerOf({ remoteAddress = "", remotePort = 0 }: Partial<Socket>): string {
  return remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}

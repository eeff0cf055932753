import { connect as connectTcp, isIP, type Socket } from "node:net";
import { checkServerIdentity, connect as connectTls, type PeerCertificate, type TLSSocket } from "node:tls";
import type { ClientTls } from "./tls.ts";

export interface SocketOptions {
  /** `host:port`, IPv6 in brackets. */
  readonly address: string;
  /** Undefined: cleartext. */
  readonly tls: ClientTls | undefined;
  /** The protocols to offer by ALPN. */
  readonly alpn: readonly string[];
  /** What the peer is called, for its certificate. */
  readonly authority: string;
}

/** After how long the next address of a name is tried beside the one that does not answer (gRFC A61, RFC 8305). */
const HAPPY_EYEBALLS_MS = 250;

/** Begins to connect, to all addresses of the name if need be. */
export function openSocket({ address, tls, alpn, authority }: SocketOptions): Socket | TLSSocket {
  const target = {
    ...splitAddress(address),
    noDelay: true,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: HAPPY_EYEBALLS_MS,
  };
  if (tls === undefined) return connectTcp(target);
  const name = tls.serverName ?? splitAddress(authority).host;
  return connectTls({
    ...target,
    secureContext: tls.secureContext(),
    ALPNProtocols: [...alpn],
    // An address is no name to ask for (RFC 6066, 3), but the certificate is held against it all the same.
    ...(isIP(name) === 0
      ? { servername: name }
      : {
          checkServerIdentity: (_host: string, certificate: PeerCertificate) => checkServerIdentity(name, certificate),
        }),
  });
}

/** `[::1]:9002` is host `::1` and port 9002; without a port, 80. */
export function splitAddress(address: string): { host: string; port: number } {
  const [, host = address, port = "80"] = /^(.*?)(?::(\d+))?$/.exec(address) ?? [];
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

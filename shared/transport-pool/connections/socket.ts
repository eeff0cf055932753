import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from "node:net";
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
  /**
   * Takes what the peer sends, in place of a "data" event, which costs half as much again. The bytes are there until it
   * returns.
   */
  readonly onRead?: ((bytes: Buffer) => void) | undefined;
}

/** What sockets are read into. Each is done with it before the next one is read. */
let readBuffer: Buffer | undefined;
const READ_BUFFER_BYTES = 65_536;

/** After how long the next address of a name is tried beside the one that does not answer (gRFC A61, RFC 8305). */
const HAPPY_EYEBALLS_MS = 250;

/** Begins to connect, to all addresses of the name if need be. */
export function openSocket({ address, tls, alpn, authority, onRead }: SocketOptions): Socket | TLSSocket {
  const target = {
    ...splitAddress(address),
    noDelay: true,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: HAPPY_EYEBALLS_MS,
    ...(onRead === undefined ? {} : { onread: readingTo(onRead) }),
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

function readingTo(onRead: (bytes: Buffer) => void): OnReadOpts {
  readBuffer ??= Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  return {
    buffer: readBuffer,
    callback(length, buffer) {
      onRead((buffer as Buffer).subarray(0, length));
      // False would pause the socket.
      return true;
    },
  };
}

/** `[::1]:9002` is host `::1` and port 9002; without a port, 80. */
export function splitAddress(address: string): { host: string; port: number } {
  const [, host = address, port = "80"] = /^(.*?)(?::(\d+))?$/.exec(address) ?? [];
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

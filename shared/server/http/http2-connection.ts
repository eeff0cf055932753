import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { type PeerCertificate, TLSSocket } from "node:tls";
import { peerOf } from "./peer.ts";

/**
 * Largest header block that is sent, whatever the peer says: Node's own client resets a stream above 64 KiB, and says
 * nothing of that limit in its settings.
 */
const MAX_HEADER_BYTES = 60 * 1024;

/** What the exchanges of one HTTP/2 connection have in common. */
export class Http2Connection {
  readonly peer: string;
  readonly session: ServerHttp2Session;
  readonly socket: Socket;
  /** Bytes of whole responses that have been written and not taken by the peer. */
  unsentBytes = 0;
  readonly #maxUnsentBytes: number;
  #open = 0;
  #onIdle: (() => void) | undefined;
  #peerCertificate: PeerCertificate | undefined;

  constructor(session: ServerHttp2Session, socket: Socket, maxUnsentBytes: number) {
    this.session = session;
    this.socket = socket;
    this.#maxUnsentBytes = maxUnsentBytes;
    this.peer = peerOf(socket);
  }

  /** Whether a whole response may be added to those that the peer has not taken. One alone always may. */
  hasRoomFor(bytes: number): boolean {
    return this.unsentBytes === 0 || this.unsentBytes + bytes <= this.#maxUnsentBytes;
  }

  /** A stream has opened. */
  opened(): void {
    this.#open++;
  }

  /** A stream has closed. */
  closed(): void {
    this.#open--;
    if (this.#open === 0) this.#onIdle?.();
  }

  /** Calls back when no stream is open. */
  onIdle(callback: () => void): void {
    this.#onIdle = callback;
    if (this.#open === 0) callback();
  }

  get peerCertificate(): PeerCertificate | undefined {
    if (this.#peerCertificate === undefined && this.socket instanceof TLSSocket) {
      const certificate = this.socket.getPeerCertificate();
      // Node's way to say that there is none.
      if (certificate !== null && Object.keys(certificate).length > 0) this.#peerCertificate = certificate;
    }
    return this.#peerCertificate;
  }

  /** From SETTINGS_MAX_HEADER_LIST_SIZE. */
  get maxHeaderBytes(): number {
    const { maxHeaderListSize = MAX_HEADER_BYTES } = this.session.destroyed ? {} : this.session.remoteSettings;
    return Math.min(maxHeaderListSize, MAX_HEADER_BYTES);
  }
}

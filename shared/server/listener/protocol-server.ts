import type { Socket } from "node:net";
import type { NodeExchange } from "../connect/fallback.ts";

/** Serves a request whose head has arrived. */
export type Serve = (exchange: NodeExchange) => void;

/** A server of one HTTP version that does not listen itself: it is handed its connections. */
export interface ProtocolServer {
  accept(socket: Socket): void;
  /** Closes the connections that are idle, and each of the others when its last call has ended. */
  drain(): void;
  /** Closes what is left, at once. */
  destroy(): void;
}

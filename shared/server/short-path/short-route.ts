import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";

/** Answers a call by other means, and gets what was read of its body. */
export type HandOn = (request: FastifyRequest, reply: FastifyReply, body: AsyncIterable<Uint8Array>) => void;

/** Serves a method's ordinary calls. */
export interface ShortRoute {
  /** @returns false for a call that is not ordinary: nothing has been done with it */
  take(request: FastifyRequest, reply: FastifyReply): boolean;
}

export type ShortRouteOf = (handler: UniversalHandler, handOn: HandOn) => ShortRoute | undefined;

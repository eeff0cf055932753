import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { DirectRoute } from "../direct/direct-routes.ts";

/** Answers a call by other means, and gets what was read of its body. */
export type HandOn = (call: HandedOn, body: AsyncIterable<Uint8Array>) => void;

export interface HandedOn {
  readonly request: IncomingMessage | Http2ServerRequest;
  readonly response: ServerResponse | Http2ServerResponse;
  /** Undefined for a call that has not come by Fastify. */
  readonly reply: FastifyReply | undefined;
}

/** Serves a method's ordinary calls. */
export interface ShortRoute extends Partial<DirectRoute> {
  /** @returns false for a call that is not ordinary: nothing has been done with it */
  take(request: FastifyRequest, reply: FastifyReply): boolean;
}

export type ShortRouteOf = (handler: UniversalHandler, handOn: HandOn) => ShortRoute | undefined;

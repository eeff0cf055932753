import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import {
  type Compression,
  encodeEnvelopes,
  envelopeCompress,
  mergeNonProtocolHeaders,
} from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes, trailerMux } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import type { FastifyReply } from "fastify";
import { frameMessages } from "#shared/rpc";
import { type HeaderFields, LazyHeaders } from "#shared/unread";
import { toTrailers } from "../connection-headers.ts";
import { compatible, type DirectResponse } from "../direct/direct-call.ts";
import { addHeaders } from "../short-path/hook-headers.ts";
import type { UnaryDialect } from "../short-path/ordinary.ts";
import { setHeaders } from "../write-response.ts";
import { endTogether } from "./end-together.ts";
import { writeToStream } from "./http2-answer.ts";

/** What a call came to: its response message, encoded, or how it failed. */
export type Outcome = Uint8Array | ConnectError;

export interface UnaryAnswer {
  readonly status: number;
  readonly header: Headers;
  readonly trailer?: Headers;
  readonly body?: Uint8Array;
}

export interface AnswerOptions {
  readonly dialect: UnaryDialect;
  readonly context: HandlerContext;
  /** What the caller can read. */
  readonly compression: Compression | null;
  readonly compressMinBytes: number;
  /** Those with which error details are shown in JSON. */
  readonly jsonOptions: object;
}

const okTrailers = { "grpc-status": "0" };
const okTrailerBytes = trailerSerialize(new Headers(okTrailers));

/** What answers begin with; made once for each compression of each dialect. */
export function initialHeader(
  { contentType, protocol, encodingHeader }: UnaryDialect,
  compression: Compression | null,
): HeaderFields {
  // gRPC names the encoding of messages, whether or not one of them has it; Connect that of the body.
  if (protocol === "connect" || compression === null) return { "content-type": contentType };
  return { "content-type": contentType, [encodingHeader]: compression.name };
}

export function initialTrailer({ protocol }: UnaryDialect): HeaderFields {
  return protocol === "connect" ? {} : okTrailers;
}

/** The answer as its protocol has it: what Connect's handlers would say, in their words. */
export function toAnswer(outcome: Outcome, options: AnswerOptions): UnaryAnswer | Promise<UnaryAnswer> {
  if (options.dialect.protocol === "connect") return connectAnswer(outcome, options);
  const { context, compression, compressMinBytes, dialect } = options;
  const header = context.responseHeader;
  const trailer = context.responseTrailer;
  if (outcome instanceof ConnectError) setTrailerStatus(trailer, outcome);
  // An interceptor may have put other headers in place of those that the answer began with.
  if (compression !== null && !header.has(dialect.encodingHeader)) header.set(dialect.encodingHeader, compression.name);
  const message = outcome instanceof ConnectError ? undefined : outcome;
  if (dialect.protocol === "grpc") {
    if (message === undefined) return { status: 200, header, trailer };
    if (compression === null || message.length < compressMinBytes) {
      return { status: 200, header, trailer, body: frameMessages([message]) };
    }
    return compressed([{ flags: 0, data: message }], compression, compressMinBytes).then((body) => ({
      status: 200,
      header,
      trailer,
      body,
    }));
  }
  const end = { flags: trailerFlag, data: isTouched(trailer) ? trailerSerialize(trailer) : okTrailerBytes };
  const envelopes = message === undefined ? [end] : [{ flags: 0, data: message }, end];
  if (compression === null || envelopes.every(({ data }) => data.length < compressMinBytes)) {
    return { status: 200, header, body: encodeEnvelopes(...envelopes) };
  }
  return compressed(envelopes, compression, compressMinBytes).then((body) => ({ status: 200, header, body }));
}

async function compressed(
  envelopes: { flags: number; data: Uint8Array }[],
  compression: Compression,
  minBytes: number,
) {
  return encodeEnvelopes(
    ...(await Promise.all(envelopes.map((envelope) => envelopeCompress(envelope, compression, minBytes)))),
  );
}

function connectAnswer(outcome: Outcome, options: AnswerOptions): UnaryAnswer | Promise<UnaryAnswer> {
  const { context, compression, compressMinBytes, jsonOptions, dialect } = options;
  let status = 200;
  let body: Uint8Array;
  if (outcome instanceof ConnectError) {
    status = codeToHttpStatus(outcome.code);
    context.responseHeader.set("content-type", "application/json");
    if (!("isWireError" in outcome && outcome.isWireError === true)) {
      mergeNonProtocolHeaders(context.responseHeader, outcome.metadata);
    }
    body = errorToJsonBytes(outcome, jsonOptions);
  } else {
    body = outcome;
  }
  if (compression === null || body.length < compressMinBytes)
    return { status, header: connectHeader(context, body), body };
  return compression.compress(body).then((bytes) => {
    context.responseHeader.set(dialect.encodingHeader, compression.name);
    return { status, header: connectHeader(context, bytes), body: bytes };
  });
}

function connectHeader({ responseHeader, responseTrailer }: HandlerContext, body: Uint8Array): Headers {
  const length = String(body.length);
  const fields = responseHeader instanceof LazyHeaders ? responseHeader.fields : undefined;
  if (fields !== undefined && !isTouched(responseTrailer)) {
    return new LazyHeaders({ ...fields, "content-length": length });
  }
  const header = trailerMux(responseHeader, responseTrailer);
  header.set("content-length", length);
  return header;
}

function isTouched(headers: Headers): boolean {
  return !(headers instanceof LazyHeaders) || headers.untouched === undefined;
}

/**
 * Writes it in this turn of the event loop.
 *
 * @param reply that of Fastify, where hooks may have set headers
 * @throws when a header or trailer cannot be written
 */
export function writeAnswer(answer: UnaryAnswer, to: Response | DirectResponse, reply: FastifyReply | undefined): void {
  const { trailer, body } = answer;
  const trailers = trailer === undefined ? undefined : fieldsOf(trailer);
  const others = reply?.getHeaders();
  if ("stream" in to && writeToStream(answer, others, trailers, to)) return;
  const response = compatible(to);
  if (others !== undefined) addHeaders(response, others);
  writeHead(answer, response);
  if (trailers !== undefined) response.addTrailers(trailers);
  if (body === undefined) response.end();
  else if ("stream" in response) response.end(body);
  else endTogether(response, body);
}

export function writeHead({ status, header }: Pick<UnaryAnswer, "status" | "header">, response: Response): void {
  const fields = header instanceof LazyHeaders ? header.fields : undefined;
  if (fields !== undefined) {
    for (const name in fields) response.setHeader(name, fields[name] as string);
  } else {
    setHeaders(response, header);
  }
  // The overloads of the two classes have no call in common.
  (response as ServerResponse).writeHead(status);
}

/** To be sent with the end. */
export function writeTrailers(trailer: Headers, response: Response): void {
  response.addTrailers(fieldsOf(trailer));
}

function fieldsOf(trailer: Headers): Record<string, string> {
  return isTouched(trailer) ? toTrailers(trailer) : okTrailers;
}

/** What Connect says of a failure that is no ConnectError. */
export function asConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  return new ConnectError("internal error", Code.Internal, undefined, undefined, error);
}

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

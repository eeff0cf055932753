import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";

import { currentCall, formatTraceparent } from "#shared/call-context";
import { type EventEncoding, encodeEvent } from "./codec.ts";
import { createEventId } from "./event-id.ts";
import type { EventType } from "./event-type.ts";

/** An encoded event with its CloudEvents context attributes. */
export interface EventEnvelope {
  /** Identifies the event together with `source`: copies have the same. Events of this library have a UUID, version 7. */
  readonly id: string;
  /** The message's full name; empty when the publisher has not set it. */
  readonly type: string;
  /** The service that published it. */
  readonly source: string;
  /** When it happened, in milliseconds since 1970. */
  readonly timeMs: number;
  /** Events with the same key keep their order; empty: no order. CloudEvents: `partitionkey`. */
  readonly key: string;
  readonly routingKey: string;
  readonly mustBeRouted: boolean;
  readonly contentType: string;
  readonly body: Uint8Array;
  /**
   * Context of the call that caused the event: `traceparent`, `tracestate`, `baggage`, `x-request-id`, `subject`. It survives
   * retries, dead letters and re-drives.
   */
  readonly context: Readonly<Record<string, string>>;
}

export interface EnvelopeOptions {
  readonly key?: string | undefined;
  readonly source: string;
  readonly encoding: EventEncoding;
}

/** Fits into a header and an index. */
const MAX_KEY_LENGTH = 255;
/** RabbitMQ 4 refuses larger messages unless told otherwise. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * Makes a new event, caused by the current call when there is one.
 *
 * @throws RangeError when the key is longer than 255 characters, or the encoded message larger than 16 MiB, which is what
 *   RabbitMQ 4 accepts
 */
export function createEnvelope<Schema extends DescMessage>(
  type: EventType<Schema>,
  message: MessageInitShape<Schema>,
  { key = "", source, encoding }: EnvelopeOptions,
): EventEnvelope {
  if (key.length > MAX_KEY_LENGTH)
    throw new RangeError(`the key of ${type.name} is longer than ${MAX_KEY_LENGTH} characters`);
  const encoded = encodeEvent(type.schema, message, encoding);
  if (encoded.body.length > MAX_BYTES) throw new RangeError(`${type.name} is larger than ${MAX_BYTES} bytes`);
  return {
    id: createEventId(),
    type: type.name,
    source,
    timeMs: Date.now(),
    key,
    routingKey: type.routingKey,
    mustBeRouted: type.mustBeRouted,
    ...encoded,
    context: contextOfCall(),
  };
}

const NO_CONTEXT: EventEnvelope["context"] = {};

function contextOfCall(): EventEnvelope["context"] {
  const call = currentCall();
  if (call === undefined) return NO_CONTEXT;
  const context: Record<string, string> = {
    traceparent: formatTraceparent(call.trace),
    "x-request-id": call.requestId,
  };
  if (call.trace.state !== undefined) context["tracestate"] = call.trace.state;
  return context;
}

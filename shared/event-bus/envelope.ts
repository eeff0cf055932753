import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { currentCall, formatTraceparent } from "#shared/call-context";
import { type EventEncoding, encodeEvent } from "./codec.ts";
import { createEventId } from "./event-id.ts";
import type { EventType } from "./event-type.ts";

/** An event on its way: an encoded message and what CloudEvents calls its context attributes. */
export interface EventEnvelope {
  /** Unique for each event; a copy of the event has the same. A UUID when the event is ours. */
  readonly id: string;
  /** The message's full name; empty when the publisher did not say. */
  readonly type: string;
  /** The service that it comes from. */
  readonly source: string;
  /** When it happened, in milliseconds since 1970. */
  readonly timeMs: number;
  /** Events with the same key keep their order; empty when there is none to keep. CloudEvents: `partitionkey`. */
  readonly key: string;
  readonly routingKey: string;
  readonly mustBeRouted: boolean;
  readonly contentType: string;
  readonly body: Uint8Array;
  /** `traceparent`, `tracestate`, `x-request-id`: what the call that caused it hands on. */
  readonly context: Readonly<Record<string, string>>;
}

export interface EnvelopeOptions {
  readonly key?: string | undefined;
  readonly source: string;
  readonly encoding: EventEncoding;
}

/** What a header and an index take without trouble. */
const LONGEST_KEY = 255;
/** RabbitMQ 4 refuses larger messages unless told otherwise. */
const MOST_BYTES = 16 * 1024 * 1024;

/**
 * A new event, caused by the current call when there is one.
 *
 * @throws RangeError when the key is longer than 255 characters, or the encoded message larger than 16 MiB: the broker
 *   would never take it
 */
export function createEnvelope<Schema extends DescMessage>(
  type: EventType<Schema>,
  message: MessageInitShape<Schema>,
  { key = "", source, encoding }: EnvelopeOptions,
): EventEnvelope {
  if (key.length > LONGEST_KEY)
    throw new RangeError(`the key of ${type.name} is longer than ${LONGEST_KEY} characters`);
  const encoded = encodeEvent(type.schema, message, encoding);
  if (encoded.body.length > MOST_BYTES) throw new RangeError(`${type.name} is larger than ${MOST_BYTES} bytes`);
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

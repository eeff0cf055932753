import { type DescMessage, getOption, hasOption } from "@bufbuild/protobuf";
import { event } from "#gen/meridian/v1/events_pb.ts";

/** An event declared in a proto by the message option `(meridian.v1.event)`. */
export interface EventType<Schema extends DescMessage = DescMessage> {
  readonly schema: Schema;
  /** The message's full name, such as `order.v1.OrderPlaced`. */
  readonly name: string;
  readonly routingKey: string;
  /** Whether publishing fails when no queue takes the event. */
  readonly mustBeRouted: boolean;
  /** Value of `type` in the bare JSON of older publishers; undefined when there are none. */
  readonly jsonType: string | undefined;
}

const known = new WeakMap<DescMessage, EventType>();
const ROUTING_KEY = /^[a-z0-9_]+(\.[a-z0-9_]+)*$/;

/** @throws TypeError when the message is not declared as an event */
export function eventTypeOf<Schema extends DescMessage>(schema: Schema): EventType<Schema> {
  const type = known.get(schema) ?? read(schema);
  known.set(schema, type);
  return type as EventType<Schema>;
}

/** Whether the message is declared as an event. */
export function isEvent(schema: DescMessage): boolean {
  return hasOption(schema, event);
}

function read(schema: DescMessage): EventType {
  if (!isEvent(schema))
    throw new TypeError(`${schema.typeName} is not an event: it lacks the option (meridian.v1.event)`);
  const { routingKey, mayBeUnrouted, jsonType } = getOption(schema, event);
  if (!ROUTING_KEY.test(routingKey)) {
    throw new TypeError(`${schema.typeName}: the routing key "${routingKey}" is not lower-case words between dots`);
  }
  return {
    schema,
    name: schema.typeName,
    routingKey,
    mustBeRouted: !mayBeUnrouted,
    jsonType: jsonType === "" ? undefined : jsonType,
  };
}

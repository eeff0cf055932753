import {
  create,
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
  type MessageInitShape,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import type { EventEnvelope } from "./envelope.ts";
import type { EventType } from "./event-type.ts";
import { brokenRules } from "./rules.ts";

export type EventEncoding = "protobuf" | "json";

export const CONTENT_TYPES: Readonly<Record<EventEncoding, string>> = {
  protobuf: "application/protobuf",
  json: "application/json",
};

const PROTOBUF = /^application\/(x-|vnd\.google\.)?protobuf\b/;
const JSON_TYPE = /^application\/([\w.-]+\+)?json\b/;

/** Content of a body, for a consumer that knows some types. */
export type Decoded =
  | { readonly kind: "event"; readonly type: EventType; readonly message: Message }
  | { readonly kind: "unknown"; readonly type: string }
  | { readonly kind: "undecodable"; readonly error: Error };

/** @throws TypeError when the message breaks the rules of its proto: each consumer would refuse it */
export function encodeEvent<Schema extends DescMessage>(
  schema: Schema,
  message: MessageInitShape<Schema>,
  encoding: EventEncoding,
): Pick<EventEnvelope, "contentType" | "body"> {
  const whole = create(schema, message);
  const broken = brokenRules(schema, whole);
  if (broken !== undefined) throw new TypeError(`${schema.typeName} breaks the rules of its proto: ${broken}`);
  const body = encoding === "json" ? Buffer.from(JSON.stringify(toJson(schema, whole))) : toBinary(schema, whole);
  return { contentType: CONTENT_TYPES[encoding], body };
}

export type Decode = (envelope: Pick<EventEnvelope, "type" | "contentType" | "body">) => Decoded;

/**
 * Decodes protobuf and proto-JSON by the content type, and the bare JSON of older publishers, which has its `type` in the
 * object. A message that breaks the rules of its proto is undecodable, unless `checkRules` is false.
 */
export function createDecoder(types: readonly EventType[], { checkRules = true } = {}): Decode {
  const byName = new Map(types.map((type) => [type.name, type]));
  const byJsonType = new Map(types.flatMap((type) => (type.jsonType === undefined ? [] : [[type.jsonType, type]])));

  function event(type: EventType, message: Message): Decoded {
    const broken = checkRules ? brokenRules(type.schema, message) : undefined;
    if (broken === undefined) return { kind: "event", type, message };
    return undecodable(new Error(`the message breaks the rules of its proto: ${broken}`));
  }

  function bareJson(value: JsonValue): Decoded {
    if (!isObject(value) || typeof value["type"] !== "string") {
      return undecodable(new Error("the message has no type"));
    }
    const { type: name, ...fields } = value;
    const type = byJsonType.get(name);
    if (type === undefined) return { kind: "unknown", type: name };
    return event(type, fromJson(type.schema, fields, { ignoreUnknownFields: true }));
  }

  return ({ type: name, contentType, body }) => {
    try {
      const type = byName.get(name);
      if (type === undefined && name !== "") return { kind: "unknown", type: name };
      if (PROTOBUF.test(contentType)) {
        if (type === undefined) return undecodable(new Error("the message has no type"));
        return event(type, fromBinary(type.schema, body));
      }
      if (!JSON_TYPE.test(contentType)) return undecodable(new Error(`the content type is "${contentType}"`));
      const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)) as JsonValue;
      if (type === undefined) return bareJson(value);
      // A later version of the proto may have added fields.
      return event(type, fromJson(type.schema, value, { ignoreUnknownFields: true }));
    } catch (error) {
      return undecodable(error instanceof Error ? error : new Error(String(error)));
    }
  };
}

function undecodable(error: Error): Decoded {
  return { kind: "undecodable", error };
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

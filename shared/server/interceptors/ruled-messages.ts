import { type DescMessage, hasOption } from "@bufbuild/protobuf";
import {
  field as fieldRules,
  message as messageRules,
  oneof as oneofRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/** Tells messages with protovalidate rules, at any depth, from those where there is nothing to look at. */
export class RuledMessages {
  readonly #known = new WeakMap<DescMessage, boolean>();

  has(schema: DescMessage): boolean {
    let isRuled = this.#known.get(schema);
    if (isRuled === undefined) {
      isRuled = isAnyRuled(schema, new Set());
      this.#known.set(schema, isRuled);
    }
    return isRuled;
  }
}

/** @param seen messages that were looked at already: types may contain themselves */
function isAnyRuled(schema: DescMessage, seen: Set<DescMessage>): boolean {
  if (seen.has(schema)) return false;
  seen.add(schema);
  if (hasOption(schema, messageRules)) return true;
  if (schema.oneofs.some((oneof) => hasOption(oneof, oneofRules))) return true;
  return schema.fields.some(
    (field) => hasOption(field, fieldRules) || (field.message !== undefined && isAnyRuled(field.message, seen)),
  );
}

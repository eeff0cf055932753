import {
  createFileRegistry,
  type DescEnum,
  type DescField,
  type DescFile,
  type DescMessage,
  fromBinary,
  ScalarType,
} from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { eventTypeOf, isEvent } from "#shared/event-bus";
import { type Commented, createCommentReader } from "./comments.ts";

/** All events that are declared, by package. */
export interface Catalogue {
  readonly packages: readonly CataloguePackage[];
}

export interface CataloguePackage {
  readonly name: string;
  readonly events: readonly CatalogueEvent[];
  /** What the fields of its events are made of, wherever that is declared. */
  readonly types: readonly CatalogueType[];
}

export interface CatalogueEvent {
  /** Such as `order.v1.OrderPlaced`. */
  readonly name: string;
  readonly routingKey: string;
  /** The comment in the proto, without its last sentence when that names the ordering key. */
  readonly description: string;
  /** The field whose value is the ordering key; null when the comment names none ("Ordered by …."). */
  readonly orderedBy: string | null;
  /** Whether it is no failure that no queue takes it. */
  readonly mayBeUnrouted: boolean;
  /** What `type` says in bare JSON of older publishers. */
  readonly jsonType: string | null;
  readonly fields: readonly CatalogueField[];
}

export interface CatalogueField {
  readonly name: string;
  /** As the proto has it, with full names: `repeated order.v1.PlacedItem`. */
  readonly type: string;
  readonly description: string;
}

export interface CatalogueType {
  readonly name: string;
  readonly kind: "message" | "enum";
  readonly description: string;
  /** An enum's values have their number for a type. */
  readonly fields: readonly CatalogueField[];
}

/**
 * @param descriptorSet a google.protobuf.FileDescriptorSet with source info, as `buf build` writes it
 * @param files the files whose events are listed; events of other files, such as those of tests, are left out
 */
export function catalogueOf(descriptorSet: Uint8Array, files: readonly DescFile[]): Catalogue {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptorSet));
  const commentOf = createCommentReader();
  const listed = new Set(files.map(({ name }) => name));
  const events = [...registry.files]
    .filter(({ name }) => listed.has(name))
    .flatMap((file) => [...nestedTypes(file)])
    .filter((type): type is DescMessage => type.kind === "message" && isEvent(type));
  const packages = Map.groupBy(events, ({ file }) => file.proto.package);
  return {
    packages: [...packages]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, messages]) => ({
        name,
        events: messages.map((message) => eventOf(message, commentOf)),
        types: [...typesOf(messages)].map((type) => typeOf(type, commentOf)),
      })),
  };
}

type CommentOf = (desc: Commented) => string;

const ORDERED_BY = /(?:^|\s)Ordered by (\S+)\.$/;

function eventOf(message: DescMessage, commentOf: CommentOf): CatalogueEvent {
  const { name, routingKey, mustBeRouted, jsonType } = eventTypeOf(message);
  const comment = commentOf(message);
  return {
    name,
    routingKey,
    description: comment.replace(ORDERED_BY, ""),
    orderedBy: ORDERED_BY.exec(comment)?.[1] ?? null,
    mayBeUnrouted: !mustBeRouted,
    jsonType: jsonType ?? null,
    fields: fieldsOf(message, commentOf),
  };
}

function typeOf(type: DescMessage | DescEnum, commentOf: CommentOf): CatalogueType {
  return {
    name: type.typeName,
    kind: type.kind,
    description: commentOf(type),
    fields:
      type.kind === "message"
        ? fieldsOf(type, commentOf)
        : type.values.map((value) => ({
            name: value.name,
            type: String(value.number),
            description: commentOf(value),
          })),
  };
}

function fieldsOf({ fields }: DescMessage, commentOf: CommentOf): CatalogueField[] {
  return fields.map((field) => ({ name: field.name, type: typeText(field), description: commentOf(field) }));
}

function typeText(field: DescField): string {
  const { message, enum: enumeration, scalar } = field;
  const item = message?.typeName ?? enumeration?.typeName ?? nameOf(scalar);
  if (field.fieldKind === "map") return `map<${nameOf(field.mapKey)}, ${item}>`;
  if (field.fieldKind === "list") return `repeated ${item}`;
  return field.proto.proto3Optional ? `optional ${item}` : item;
}

/** As protos write it. */
function nameOf(scalar: ScalarType | undefined): string {
  return scalar === undefined ? "" : ScalarType[scalar].toLowerCase();
}

/** The messages and enums that these refer to, at any depth, less the well-known ones. */
function typesOf(messages: readonly DescMessage[]): Set<DescMessage | DescEnum> {
  const types = new Set<DescMessage | DescEnum>();

  function visit({ fields }: DescMessage): void {
    for (const { message, enum: enumeration } of fields) {
      const type = message ?? enumeration;
      if (type === undefined || types.has(type) || type.typeName.startsWith("google.protobuf.")) continue;
      types.add(type);
      if (type.kind === "message") visit(type);
    }
  }

  for (const message of messages) visit(message);
  return types;
}

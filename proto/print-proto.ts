// A descriptor as proto source. It knows what buf/validate/validate.proto has (proto2, top-level messages, enums and
// extensions, options with extensions of the file's own) and throws at anything else.

import {
  type DescEnum,
  type DescExtension,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescOneof,
  getExtension,
  hasExtension,
  type Message,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect, type ScalarValue } from "@bufbuild/protobuf/reflect";
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldOptionsSchema,
  FileOptionsSchema,
} from "@bufbuild/protobuf/wkt";

/** The file's source in proto2, without comments, which descriptors of generated code do not carry. */
export function printProto(file: DescFile): string {
  if (file.proto.syntax !== "" && file.proto.syntax !== "proto2") {
    throw new Error(`${file.proto.name}: only proto2 is printed, not ${file.proto.syntax}`);
  }
  if (file.services.length > 0) {
    throw new Error(`${file.proto.name}: services are not printed`);
  }
  return [
    'syntax = "proto2";',
    `package ${file.proto.package};`,
    ...file.proto.dependency.map((path) => `import ${JSON.stringify(path)};`),
    ...fileOptions(file),
    ...file.extensions.map((e) => `extend ${e.extendee.typeName} {\n${printField(e, file)}\n}`),
    ...file.messages.map((message) => printMessage(message, file)),
    ...file.enums.map(printEnum),
    "",
  ].join("\n");
}

function fileOptions(file: DescFile): string[] {
  if (file.proto.options === undefined) return [];
  const options = reflect(FileOptionsSchema, file.proto.options);
  return options.fields.filter((f) => options.isSet(f)).map((f) => `option ${f.name} = ${printValue(f, options)};`);
}

function printMessage(message: DescMessage, file: DescFile): string {
  if (message.nestedMessages.length + message.nestedEnums.length + message.nestedExtensions.length > 0) {
    throw new Error(`${message.typeName}: nested types are not printed`);
  }
  const { reservedRange, reservedName, extensionRange } = message.proto;
  const ranges = (list: readonly { start: number; end: number }[]) =>
    list.map(({ start, end }) => (end > 536870911 ? `${start} to max` : `${start} to ${end - 1}`));
  return [
    `message ${message.name} {`,
    ...ranges(reservedRange).map((range) => `reserved ${range};`),
    ...reservedName.map((name) => `reserved ${JSON.stringify(name)};`),
    ...ranges(extensionRange).map((range) => `extensions ${range};`),
    ...message.members.map((m) => (m.kind === "oneof" ? printOneof(m, file) : printField(m, file))),
    "}",
  ].join("\n");
}

function printOneof(oneof: DescOneof, file: DescFile): string {
  return [`oneof ${oneof.name} {`, ...oneof.fields.map((field) => printField(field, file)), "}"].join("\n");
}

function printField(field: DescField | DescExtension, file: DescFile): string {
  const { label, type, typeName, name, number, options } = field.proto;
  const isInOneof = field.kind === "field" && field.oneof !== undefined;
  const labelText = isInOneof ? "" : `${FieldDescriptorProto_Label[label].toLowerCase()} `;
  const typeText = typeName || FieldDescriptorProto_Type[type].toLowerCase();
  const settings = options === undefined ? [] : [...plainOptions(options), ...ownExtensions(options, file)];
  return `${labelText}${typeText} ${name} = ${number}${settings.length > 0 ? ` [${settings.join(", ")}]` : ""};`;

  function plainOptions(message: Message & NonNullable<typeof options>): string[] {
    const set = reflect(FieldOptionsSchema, message);
    return set.fields.filter((f) => set.isSet(f)).map((f) => `${f.name} = ${printValue(f, set)}`);
  }
}

function ownExtensions(options: Message, file: DescFile): string[] {
  return file.extensions
    .filter((e) => e.extendee.typeName === options.$typeName && hasExtension(options, e))
    .flatMap((e) => {
      if (e.message === undefined) throw new Error(`${e.typeName}: only messages are printed as option values`);
      const value = reflect(e.message, getExtension(options, e) as Message);
      return setMembers(value).map(([key, text]) => `(${e.typeName}).${key} = ${text}`);
    });
}

/** A message's set fields as name and text; an element of a list stands for itself. */
function setMembers(message: ReflectMessage): [string, string][] {
  return message.fields
    .filter((field) => message.isSet(field))
    .flatMap((field) => {
      if (field.fieldKind !== "list") return [[field.name, printValue(field, message)]];
      if (field.listKind !== "message") throw new Error(`${field}: only lists of messages are printed`);
      return Array.from(message.get(field), (item) => [field.name, printMessageValue(item as ReflectMessage)]);
    });
}

function printMessageValue(message: ReflectMessage): string {
  return `{ ${setMembers(message)
    .map(([key, text]) => `${key}: ${text}`)
    .join(", ")} }`;
}

function printValue(field: DescField, message: ReflectMessage): string {
  const value = message.get(field);
  switch (field.fieldKind) {
    case "scalar":
      return typeof value === "string" ? JSON.stringify(value) : String(value as ScalarValue);
    case "enum":
      return field.enum.value[value as number]?.name ?? String(value);
    case "message":
      return printMessageValue(value as ReflectMessage);
    default:
      throw new Error(`${field}: not printed`);
  }
}

function printEnum(enumeration: DescEnum): string {
  const values = enumeration.values.map((value) => `${value.name} = ${value.number};`);
  return [`enum ${enumeration.name} {`, ...values, "}"].join("\n");
}

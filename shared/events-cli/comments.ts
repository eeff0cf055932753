import type { DescEnum, DescEnumValue, DescField, DescFile, DescMessage } from "@bufbuild/protobuf";

export type Commented = DescMessage | DescField | DescEnum | DescEnumValue;

/**
 * Reads the comments of what is declared in proto files: empty where there is none. The descriptors must come from files
 * with source info, which `gen` has not.
 */
export function createCommentReader(): (desc: Commented) => string {
  const known = new WeakMap<DescFile, ReadonlyMap<string, string>>();

  return (desc) => {
    const file = fileOf(desc);
    const comments = known.get(file) ?? commentsOf(file);
    known.set(file, comments);
    return comments.get(pathOf(desc).join(".")) ?? "";
  };
}

function fileOf(desc: Commented): DescFile {
  return desc.kind === "field" || desc.kind === "enum_value" ? desc.parent.file : desc.file;
}

function commentsOf({ proto: { sourceCodeInfo } }: DescFile): ReadonlyMap<string, string> {
  const locations = sourceCodeInfo?.location ?? [];
  return new Map(
    locations.map(({ path, leadingComments, trailingComments }) => [
      path.join("."),
      flowing([leadingComments, trailingComments].join("\n")),
    ]),
  );
}

/** Lines of a paragraph in one; an empty line between paragraphs. */
function flowing(comment: string): string {
  const paragraphs = comment
    .split("\n")
    .map((line) => line.trim())
    .join("\n")
    .split(/\n{2,}/);
  return paragraphs
    .map((paragraph) => paragraph.replaceAll("\n", " ").trim())
    .filter((paragraph) => paragraph !== "")
    .join("\n\n");
}

/** Field numbers of descriptor.proto, and places in its lists: how source info names what it is about. */
const FILE = { message: 4, enum: 5 } as const;
const MESSAGE = { field: 2, message: 3, enum: 4 } as const;
const ENUM_VALUE = 2;

function pathOf(desc: Commented): readonly number[] {
  if (desc.kind === "field")
    return [...pathOf(desc.parent), MESSAGE.field, desc.parent.proto.field.indexOf(desc.proto)];
  if (desc.kind === "enum_value")
    return [...pathOf(desc.parent), ENUM_VALUE, desc.parent.proto.value.indexOf(desc.proto)];
  const { file, parent } = desc;
  if (desc.kind === "message") {
    return parent === undefined
      ? [FILE.message, file.proto.messageType.indexOf(desc.proto)]
      : [...pathOf(parent), MESSAGE.message, parent.proto.nestedType.indexOf(desc.proto)];
  }
  return parent === undefined
    ? [FILE.enum, file.proto.enumType.indexOf(desc.proto)]
    : [...pathOf(parent), MESSAGE.enum, parent.proto.enumType.indexOf(desc.proto)];
}

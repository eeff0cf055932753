import assert from "node:assert/strict";
import { test } from "node:test";
import { create, createFileRegistry, type DescMessage, setExtension } from "@bufbuild/protobuf";
import {
  FieldOptionsSchema,
  FileDescriptorProtoSchema,
  FieldDescriptorProto_Label as Label,
  MessageOptionsSchema,
  OneofOptionsSchema,
  StringValueSchema,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";
import {
  FieldRulesSchema,
  field,
  MessageRulesSchema,
  message,
  OneofRulesSchema,
  oneof,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { RuledMessages } from "./ruled-messages.ts";

const ruledField = create(FieldOptionsSchema);
setExtension(ruledField, field, create(FieldRulesSchema, { required: true }));
const ruledMessage = create(MessageOptionsSchema);
setExtension(ruledMessage, message, create(MessageRulesSchema, { cel: [{ id: "a", expression: "true" }] }));
const ruledOneof = create(OneofOptionsSchema);
setExtension(ruledOneof, oneof, create(OneofRulesSchema, { required: true }));

const text = { name: "text", number: 1, type: Type.STRING, label: Label.OPTIONAL };
const other = (typeName: string, label: Label = Label.OPTIONAL) => ({
  name: "other",
  number: 2,
  type: Type.MESSAGE,
  typeName: `.t.${typeName}`,
  label,
});

const registry = createFileRegistry(
  create(FileDescriptorProtoSchema, {
    name: "t.proto",
    package: "t",
    syntax: "proto3",
    messageType: [
      { name: "Plain", field: [text, other("Plain")] },
      { name: "Field", field: [{ ...text, options: ruledField }] },
      { name: "Whole", field: [text], options: ruledMessage },
      { name: "Oneof", field: [{ ...text, oneofIndex: 0 }], oneofDecl: [{ name: "one", options: ruledOneof }] },
      { name: "Deep", field: [text, other("Between")] },
      { name: "Between", field: [text, other("Field", Label.REPEATED)] },
    ],
  }),
  () => undefined,
);

test("messages with rules are told from those without, at any depth", () => {
  const ruled = new RuledMessages();
  const has = (name: string) => ruled.has(registry.getMessage(`t.${name}`) as DescMessage);
  for (const name of ["Field", "Whole", "Oneof", "Deep", "Between"]) assert.equal(has(name), true, name);
  assert.equal(has("Plain"), false);
  assert.equal(ruled.has(StringValueSchema), false);
});

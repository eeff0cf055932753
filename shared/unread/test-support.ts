import { create, toBinary } from "@bufbuild/protobuf";
import { fileDesc, messageDesc } from "@bufbuild/protobuf/codegenv2";
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorProtoSchema,
  file_google_protobuf_struct,
  file_google_protobuf_timestamp,
} from "@bufbuild/protobuf/wkt";

const { REPEATED } = FieldDescriptorProto_Label;
const { STRING, BYTES, BOOL, INT32, SINT64, FIXED32, DOUBLE, FLOAT, FIXED64, ENUM, MESSAGE } =
  FieldDescriptorProto_Type;

const proto = create(FileDescriptorProtoSchema, {
  name: "testing/v1/sample.proto",
  package: "testing.v1",
  syntax: "proto3",
  dependency: ["google/protobuf/struct.proto", "google/protobuf/timestamp.proto"],
  enumType: [
    {
      name: "Kind",
      value: [
        { name: "KIND_UNSPECIFIED", number: 0 },
        { name: "KIND_A", number: 1 },
      ],
    },
  ],
  messageType: [
    {
      name: "Sample",
      oneofDecl: [{ name: "choice" }, { name: "_maybe" }],
      field: [
        { name: "text", number: 1, type: STRING },
        { name: "blob", number: 2, type: BYTES },
        { name: "flag", number: 3, type: BOOL },
        { name: "count", number: 4, type: INT32 },
        { name: "big", number: 5, type: SINT64 },
        { name: "fixed", number: 6, type: FIXED32 },
        { name: "real", number: 7, type: DOUBLE },
        { name: "small", number: 8, type: FLOAT },
        { name: "wide", number: 9, type: FIXED64 },
        { name: "kind", number: 10, type: ENUM, typeName: ".testing.v1.Kind" },
        { name: "child", number: 11, type: MESSAGE, typeName: ".testing.v1.Sample" },
        { name: "children", number: 12, type: MESSAGE, typeName: ".testing.v1.Sample", label: REPEATED },
        { name: "texts", number: 13, type: STRING, label: REPEATED },
        { name: "counts", number: 14, type: INT32, label: REPEATED },
        { name: "reals", number: 15, type: DOUBLE, label: REPEATED },
        { name: "fixeds", number: 16, type: FIXED32, label: REPEATED },
        { name: "kinds", number: 17, type: ENUM, typeName: ".testing.v1.Kind", label: REPEATED },
        { name: "by_name", number: 18, type: MESSAGE, typeName: ".testing.v1.Sample.ByNameEntry", label: REPEATED },
        { name: "by_count", number: 19, type: MESSAGE, typeName: ".testing.v1.Sample.ByCountEntry", label: REPEATED },
        { name: "at", number: 20, type: MESSAGE, typeName: ".google.protobuf.Timestamp" },
        { name: "one", number: 21, type: STRING, oneofIndex: 0 },
        { name: "other", number: 22, type: MESSAGE, typeName: ".testing.v1.Sample", oneofIndex: 0 },
        { name: "maybe", number: 23, type: INT32, oneofIndex: 1, proto3Optional: true },
        { name: "json", number: 24, type: MESSAGE, typeName: ".google.protobuf.Struct" },
      ],
      nestedType: [
        entry("ByNameEntry", STRING, { type: MESSAGE, typeName: ".testing.v1.Sample" }),
        entry("ByCountEntry", INT32, { type: STRING }),
      ],
    },
  ],
});

function entry(
  name: string,
  key: FieldDescriptorProto_Type,
  value: { readonly type: FieldDescriptorProto_Type; readonly typeName?: string },
) {
  return {
    name,
    field: [
      { name: "key", number: 1, type: key },
      { name: "value", number: 2, ...value },
    ],
    options: { mapEntry: true },
  };
}

/** For tests: a message with a field of every kind. */
export const SampleSchema = messageDesc(
  fileDesc(Buffer.from(toBinary(FileDescriptorProtoSchema, proto)).toString("base64"), [
    file_google_protobuf_struct,
    file_google_protobuf_timestamp,
  ]),
  0,
);

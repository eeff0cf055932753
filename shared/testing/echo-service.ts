import { create, toBinary } from "@bufbuild/protobuf";
import { fileDesc, type GenService, serviceDesc } from "@bufbuild/protobuf/codegenv2";
import {
  FileDescriptorProtoSchema,
  file_google_protobuf_wrappers,
  MethodOptions_IdempotencyLevel,
  type StringValueSchema,
} from "@bufbuild/protobuf/wkt";

const TEXT = ".google.protobuf.StringValue";

const proto = create(FileDescriptorProtoSchema, {
  name: "testing/v1/echo.proto",
  package: "testing.v1",
  syntax: "proto3",
  dependency: ["google/protobuf/wrappers.proto"],
  service: [
    {
      name: "EchoService",
      method: [
        { name: "Echo", inputType: TEXT, outputType: TEXT },
        {
          name: "Read",
          inputType: TEXT,
          outputType: TEXT,
          options: { idempotencyLevel: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS },
        },
        { name: "Collect", inputType: TEXT, outputType: TEXT, clientStreaming: true },
        { name: "Expand", inputType: TEXT, outputType: TEXT, serverStreaming: true },
        { name: "Chat", inputType: TEXT, outputType: TEXT, clientStreaming: true, serverStreaming: true },
      ],
    },
  ],
});

interface Method<Kind extends "unary" | "client_streaming" | "server_streaming" | "bidi_streaming"> {
  methodKind: Kind;
  input: typeof StringValueSchema;
  output: typeof StringValueSchema;
}

/** A service with a method of every kind (`Read` is one that may be called by GET); its messages are texts. */
export const EchoService: GenService<{
  echo: Method<"unary">;
  read: Method<"unary">;
  collect: Method<"client_streaming">;
  expand: Method<"server_streaming">;
  chat: Method<"bidi_streaming">;
}> = serviceDesc(
  fileDesc(Buffer.from(toBinary(FileDescriptorProtoSchema, proto)).toString("base64"), [file_google_protobuf_wrappers]),
  0,
);

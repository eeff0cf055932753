// What the proto files promise beyond what buf's own rules check.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { DescEnum, DescField, DescFile, DescMessage, DescMethod } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FieldDescriptorProto_Type, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { file_book_v1_book } from "#gen/book/v1/book_pb.ts";
import { file_meridian_v1_errors } from "#gen/meridian/v1/errors_pb.ts";
import { file_order_v1_order } from "#gen/order/v1/order_pb.ts";
import { CreateUserRequestSchema, file_user_v1_user, UserErrorReason, UserService } from "#gen/user/v1/user_pb.ts";
import { loadService } from "./support/grpc-js.ts";

const files: readonly DescFile[] = [file_user_v1_user, file_book_v1_book, file_order_v1_order];
const methods = files.flatMap((file) => file.services.flatMap((service) => service.methods));
const types = [...files, file_meridian_v1_errors].flatMap((file) => [...nestedTypes(file)]);
const enums = types.filter((type): type is DescEnum => type.kind === "enum");

const publishedReasons: Readonly<Record<string, readonly string[]>> = {
  "user.v1.UserErrorReason": ["UNSPECIFIED", "USER_NOT_FOUND", "EMAIL_TAKEN", "REQUEST_ID_REUSED"],
  "book.v1.BookErrorReason": ["UNSPECIFIED", "BOOK_NOT_FOUND", "NO_RECOMMENDATION", "REQUEST_ID_REUSED"],
  "order.v1.OrderErrorReason": [
    "UNSPECIFIED",
    "ORDER_NOT_FOUND",
    "USER_NOT_FOUND",
    "BOOK_NOT_FOUND",
    "OUT_OF_STOCK",
    "REQUEST_ID_REUSED",
  ],
  "meridian.v1.PlatformErrorReason": [
    "UNSPECIFIED",
    "VALIDATION_FAILED",
    "PAGE_TOKEN_INVALID",
    "DATABASE_UNAVAILABLE",
    "DATABASE_TIMEOUT",
    "SHUTTING_DOWN",
    "PEER_UNAVAILABLE",
  ],
};

const { IDEMPOTENCY_UNKNOWN, IDEMPOTENT, NO_SIDE_EFFECTS } = MethodOptions_IdempotencyLevel;

describe("methods", () => {
  test("are those of the design", () => {
    const names = files.flatMap(({ services }) =>
      services.map(({ typeName, methods }) => [typeName, methods.map(({ name }) => name)]),
    );
    assert.deepEqual(Object.fromEntries(names), {
      "user.v1.UserService": ["SayHello", "CreateUser", "GetUser", "ListUsers"],
      "book.v1.BookService": ["GetRecommendation", "CreateBook", "GetBook", "ListBooks"],
      "order.v1.OrderService": ["CreateOrder", "GetOrder", "ListOrders", "WatchOrder"],
    });
  });

  test("that write may be sent twice, by a request_id; others have no side effects, but for SayHello's event", () => {
    for (const method of methods) {
      const writes = /^(Create|Update|Delete|Cancel)/.test(method.name);
      const idempotency = writes ? IDEMPOTENT : method.name === "SayHello" ? IDEMPOTENCY_UNKNOWN : NO_SIDE_EFFECTS;
      assert.equal(method.idempotency, idempotency, nameOf(method));
      const requestId = fieldOf(method.input, "request_id");
      assert.equal(requestId !== undefined, writes, nameOf(method));
      if (requestId !== undefined) assert.equal(requestId.proto.type, FieldDescriptorProto_Type.STRING);
    }
  });

  test("that list do so in pages", () => {
    const lists = methods.filter(({ output }) =>
      output.fields.some((field) => field.fieldKind === "list" && field.listKind === "message"),
    );
    assert.deepEqual(
      lists.map(({ name }) => name),
      ["ListUsers", "ListBooks", "ListOrders"],
    );
    for (const method of lists) {
      assert.equal(fieldOf(method.input, "page_size")?.proto.type, FieldDescriptorProto_Type.INT32, nameOf(method));
      assert.equal(fieldOf(method.input, "page_token")?.proto.type, FieldDescriptorProto_Type.STRING, nameOf(method));
      const next = fieldOf(method.output, "next_page_token");
      assert.equal(next?.proto.type, FieldDescriptorProto_Type.STRING, nameOf(method));
    }
  });
});

describe("enums", () => {
  test("start at UNSPECIFIED, which is 0", () => {
    assert.ok(enums.length > 0);
    for (const { typeName, values } of enums) {
      assert.equal(values[0]?.number, 0, typeName);
      assert.equal(values[0]?.localName, "UNSPECIFIED", typeName);
    }
  });

  test("of error reasons are there in each package, and their numbers stay", () => {
    const reasons = enums.filter(({ name }) => name.endsWith("ErrorReason"));
    assert.deepEqual(reasons.map(({ typeName }) => typeName).sort(), Object.keys(publishedReasons).sort());
    for (const { typeName, values } of reasons) {
      const published = publishedReasons[typeName] ?? [];
      // More may come after them.
      const present = values.map(({ localName }) => localName).slice(0, published.length);
      assert.deepEqual(present, published);
    }
    for (const { values } of reasons) {
      assert.deepEqual(
        values.map(({ number }) => number),
        values.map((_, index) => index),
      );
    }
  });
});

describe("user.v1", () => {
  const wire = {
    "user.v1.HelloRequest": ["name=1 STRING"],
    "user.v1.HelloResponse": ["message=1 STRING"],
    "user.v1.CreateUserRequest": ["username=1 STRING", "email=2 STRING"],
    "user.v1.CreateUserResponse": ["user=1 MESSAGE"],
    "user.v1.GetUserRequest": ["id=1 STRING"],
    "user.v1.GetUserResponse": ["user=1 MESSAGE"],
    "user.v1.User": ["id=1 STRING", "username=2 STRING", "email=3 STRING", "created_at=4 INT64", "updated_at=5 INT64"],
  };

  for (const [typeName, fields] of Object.entries(wire)) {
    test(`${typeName} is on the wire what it was in the original`, () => {
      const message = types.find((type): type is DescMessage => type.kind === "message" && type.typeName === typeName);
      const present = message?.fields.map(({ proto: { name, number, type } }) => {
        return `${name}=${number} ${FieldDescriptorProto_Type[type]}`;
      });
      // More may come after them.
      assert.deepEqual(present?.slice(0, fields.length), fields);
    });
  }

  test("gives the original's methods their messages, and none of them streams", () => {
    const published = UserService.methods.slice(0, 3).map(({ name, input, output, methodKind }) => {
      return [name, input.typeName, output.typeName, methodKind];
    });
    assert.deepEqual(published, [
      ["SayHello", "user.v1.HelloRequest", "user.v1.HelloResponse", "unary"],
      ["CreateUser", "user.v1.CreateUserRequest", "user.v1.CreateUserResponse", "unary"],
      ["GetUser", "user.v1.GetUserRequest", "user.v1.GetUserResponse", "unary"],
    ]);
  });

  test("has its request_id where the original has nothing", () => {
    assert.equal(fieldOf(CreateUserRequestSchema, "request_id")?.number, 3);
    assert.equal(UserErrorReason.EMAIL_TAKEN, 2);
  });
});

test("grpc-js reads every proto file as protoc would", () => {
  for (const { services } of files) {
    for (const { typeName, methods, file } of services) {
      const { service } = loadService(`${file.name}.proto`, typeName);
      assert.deepEqual(
        Object.keys(service),
        methods.map(({ name }) => name),
      );
    }
  }
});

function fieldOf(message: DescMessage, name: string): DescField | undefined {
  return message.fields.find((field) => field.name === name);
}

function nameOf({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type ServerReflectionRequestSchema, ServerReflection as V1 } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { startServer } from "#shared/testing";

type Question = NonNullable<MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"]>;

async function* asked(questions: Question[]) {
  for (const messageRequest of questions) yield { host: "somewhere", messageRequest };
}

/** The answers of both versions, which must be alike. */
async function answersOf(transport: Transport, questions: Question[]) {
  const answers = await Array.fromAsync(createClient(V1, transport).serverReflectionInfo(asked(questions)));
  const alpha = await Array.fromAsync(
    createClient(V1Alpha, transport).serverReflectionInfo(asked(questions) as AsyncIterable<object>),
  );
  const plain = (list: readonly { messageResponse: unknown }[]) =>
    JSON.parse(
      JSON.stringify(
        list.map(({ messageResponse }) => messageResponse),
        (key, value: unknown) => (key === "$typeName" ? undefined : value),
      ),
    );
  assert.deepEqual(plain(alpha), plain(answers));
  for (const { validHost } of answers) assert.equal(validHost, "somewhere");
  return answers.map(({ messageResponse }) => messageResponse);
}

async function transportFor(t: Parameters<typeof startServer>[0]): Promise<Transport> {
  const { url } = await startServer(t, { routes: (router) => router.service(UserService, {}) });
  return createGrpcTransport({ baseUrl: url });
}

function fileNames(answer: Awaited<ReturnType<typeof answersOf>>[number] | undefined): string[] {
  assert.equal(answer?.case, "fileDescriptorResponse");
  return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
}

test("it lists the service's own services, health and itself", async (t) => {
  const [answer] = await answersOf(await transportFor(t), [{ case: "listServices", value: "" }]);
  assert.equal(answer?.case, "listServicesResponse");
  assert.deepEqual(
    answer.value.service.map(({ name }) => name),
    [
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      "user.v1.UserService",
    ],
  );
});

test("a file comes by its name or by what it holds, first, with all that it imports", async (t) => {
  const answers = await answersOf(await transportFor(t), [
    { case: "fileByFilename", value: "user/v1/user.proto" },
    { case: "fileContainingSymbol", value: "user.v1.UserService" },
    { case: "fileContainingSymbol", value: "user.v1.UserService.GetUser" },
    { case: "fileContainingSymbol", value: "user.v1.User" },
    { case: "fileContainingSymbol", value: "user.v1.User.email" },
    { case: "fileContainingSymbol", value: "user.v1.UserErrorReason" },
  ]);
  assert.equal(answers.length, 6);
  for (const answer of answers) {
    const names = fileNames(answer);
    assert.equal(names[0], "user/v1/user.proto");
    assert.ok(names.includes("buf/validate/validate.proto"));
    assert.ok(names.includes("google/protobuf/descriptor.proto"));
    assert.equal(new Set(names).size, names.length);
  }
});

test("the messages in which errors tell their details are known, though no service names them", async (t) => {
  const [answer] = await answersOf(await transportFor(t), [
    { case: "fileContainingSymbol", value: "google.rpc.ErrorInfo" },
  ]);
  assert.equal(fileNames(answer)[0], "google/rpc/error_details.proto");
});

test("extensions come by number, and a type tells its numbers", async (t) => {
  const [file, numbers] = await answersOf(await transportFor(t), [
    {
      case: "fileContainingExtension",
      value: { containingType: "google.protobuf.FieldOptions", extensionNumber: 1159 },
    },
    { case: "allExtensionNumbersOfType", value: "google.protobuf.FieldOptions" },
  ]);
  assert.equal(fileNames(file)[0], "buf/validate/validate.proto");
  assert.equal(numbers?.case, "allExtensionNumbersResponse");
  assert.deepEqual(numbers.value.extensionNumber.toSorted(), [1159, 1160]);
});

test("what is not known is NOT_FOUND, what is not asked INVALID_ARGUMENT, and the stream goes on", async (t) => {
  const answers = await answersOf(await transportFor(t), [
    { case: "fileByFilename", value: "no/such.proto" },
    { case: "fileContainingSymbol", value: "no.Such" },
    { case: "fileContainingExtension", value: { containingType: "user.v1.User", extensionNumber: 7 } },
    { case: "allExtensionNumbersOfType", value: "no.Such" },
    { case: undefined },
    { case: "listServices", value: "" },
  ]);
  const codes = answers.map((answer) => (answer.case === "errorResponse" ? answer.value.errorCode : answer.case));
  const { NotFound, InvalidArgument } = Code;
  assert.deepEqual(codes, [NotFound, NotFound, NotFound, NotFound, InvalidArgument, "listServicesResponse"]);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import {
  DomainError,
  type ErrorCode,
  fromConnectError,
  markPeerError,
  peerFailure,
  toConnectError,
} from "#shared/errors";

const codes: Record<ErrorCode, Code> = {
  canceled: Code.Canceled,
  unknown: Code.Unknown,
  invalid_argument: Code.InvalidArgument,
  deadline_exceeded: Code.DeadlineExceeded,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  failed_precondition: Code.FailedPrecondition,
  aborted: Code.Aborted,
  out_of_range: Code.OutOfRange,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
  unavailable: Code.Unavailable,
  data_loss: Code.DataLoss,
  unauthenticated: Code.Unauthenticated,
};

test("a domain error of every code has its code and an ErrorInfo of this domain", () => {
  for (const [code, expected] of Object.entries(codes)) {
    const error = toConnectError(new DomainError(code as ErrorCode, "SOME_REASON", "words"), "user-service");
    assert.equal(error.code, expected);
    assert.equal(error.rawMessage, "words");
    assert.deepEqual(error.details, [
      { desc: ErrorInfoSchema, value: { reason: "SOME_REASON", domain: "user-service", metadata: {} } },
    ]);
  }
});

test("refused fields become a BadRequest beside the ErrorInfo", () => {
  const fields = [
    { field: "email", description: "not an address", reason: "string.email" },
    { field: "items[0].quantity", description: "too many" },
  ];
  const error = toConnectError(new DomainError("invalid_argument", "VALIDATION_FAILED", "words", { fields }), "d");
  assert.deepEqual(error.details[1], {
    desc: BadRequestSchema,
    value: {
      fieldViolations: [
        { field: "email", description: "not an address", reason: "string.email" },
        { field: "items[0].quantity", description: "too many", reason: "" },
      ],
    },
  });
});

test("a ConnectError stays the same object", () => {
  const error = new ConnectError("words", Code.Aborted);
  assert.equal(toConnectError(error, "d"), error);
});

test("anything else says nothing but internal, and keeps its cause", () => {
  for (const cause of [new Error("password=hunter2"), "text", undefined, { code: "ECONNREFUSED" }]) {
    const error = toConnectError(cause, "d");
    assert.equal(error.code, Code.Internal);
    assert.equal(error.cause, cause);
    assert.equal(error.details.length, 0);
    assert.ok(!error.message.includes("hunter2"));
  }
});

test("code, reason, metadata and fields arrive at a caller who asks for them; the cause does not", async () => {
  const thrown = new DomainError("not_found", "USER_NOT_FOUND", "there is no such user", {
    metadata: { user_id: "7" },
    fields: [{ field: "id", description: "unknown" }],
    cause: new Error("select … from users"),
  });
  const transport = createRouterTransport((router) =>
    router.rpc(UserService.method.getUser, () => {
      throw toConnectError(thrown, "user-service");
    }),
  );
  const wire = await createClient(UserService, transport)
    .getUser({ id: "7" })
    .catch((error: unknown) => error);
  const received = fromConnectError(wire);
  assert.equal(received?.code, "not_found");
  assert.equal(received?.reason, "USER_NOT_FOUND");
  assert.equal(received?.message, "there is no such user");
  assert.deepEqual({ ...received?.metadata }, { user_id: "7" });
  assert.deepEqual(received?.fields, [{ field: "id", description: "unknown", reason: "" }]);
  assert.equal(received?.cause, wire);
  assert.ok(!String((wire as ConnectError).cause ?? "").includes("select"));
});

test("an error that carries no ErrorInfo is no domain error", () => {
  assert.equal(fromConnectError(new ConnectError("words", Code.NotFound)), undefined);
  assert.equal(fromConnectError(new Error("words")), undefined);
  assert.equal(fromConnectError(undefined), undefined);
});

test("a peer that cannot be reached makes this service unavailable, and its address stays inside", () => {
  const cause = new ConnectError("connect ECONNREFUSED 10.0.0.7:9002", Code.Unavailable);
  const error = peerFailure("book-service", cause);
  assert.ok(error instanceof DomainError);
  assert.equal(error.code, "unavailable");
  assert.equal(error.reason, "PEER_UNAVAILABLE");
  assert.deepEqual(error.metadata, { service: "book-service" });
  assert.equal(error.cause, cause);
  assert.ok(!error.message.includes("10.0.0.7"));
});

test("any other failure of a peer's is this service's, but for how the caller's own call ended", () => {
  const expected = new Map([
    [Code.NotFound, "internal"],
    [Code.Internal, "internal"],
    [Code.PermissionDenied, "internal"],
    [Code.ResourceExhausted, "resource_exhausted"],
    [Code.Unimplemented, "unimplemented"],
  ]);
  for (const [code, own] of expected) {
    const error = peerFailure("book-service", new ConnectError("words", code));
    assert.ok(error instanceof DomainError);
    assert.deepEqual([error.code, error.reason, error.message.includes("words")], [own, "PEER_FAILED", false]);
  }
  for (const code of [Code.Canceled, Code.DeadlineExceeded]) {
    const ending = new ConnectError("words", code);
    assert.equal(peerFailure("book-service", ending), ending);
  }
});

test("a peer's error that a handler lets through does not go out as this service's own", () => {
  const peers = new ConnectError("no such row", Code.NotFound, { "x-secret": "1" });
  const error = toConnectError(markPeerError(peers, "book-service"), "order-service");
  assert.equal(error.code, Code.Internal);
  assert.equal(fromConnectErrorOf(error), "PEER_FAILED");
  assert.equal(error.metadata.get("x-secret"), null);
  // Made anew, it is meant.
  const meant = new ConnectError("no such book", Code.NotFound);
  assert.equal(toConnectError(meant, "order-service"), meant);
});

function fromConnectErrorOf(error: ConnectError): unknown {
  const [detail] = error.details;
  return detail !== undefined && "desc" in detail ? (detail.value as { reason?: string }).reason : undefined;
}

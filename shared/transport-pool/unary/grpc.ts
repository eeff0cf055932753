import { requestHeaderWithCompression } from "@connectrpc/connect/protocol-grpc";
import { frameMessages } from "#shared/rpc";
import { acceptCompression, type CreateUnaryMethod, serializationOf, type UnaryMethod } from "./answer.ts";
import { GrpcAnswer } from "./grpc-answer.ts";

/** gRPC over HTTP/2. */
export const createGrpcMethod: CreateUnaryMethod = (method, readMaxBytes) => {
  const { serialize, output, unreadOutput } = serializationOf(method, readMaxBytes);
  const read = { method, output, readMaxBytes };
  const unread = { ...read, output: unreadOutput };
  return {
    ...grpcRequestHeaders(),
    omit: undefined,
    httpMethod: () => "POST",
    serialize: (message) => frameMessages([serialize(message)]),
    expect: (context) => new GrpcAnswer(context.isUnread ? unread : read, context),
  };
};

/** What is the same for each request, of unary calls and of streams. */
export function grpcRequestHeaders(): Pick<UnaryMethod, "header" | "timeout"> {
  const stock = requestHeaderWithCompression(true, undefined, undefined, acceptCompression, null);
  const userAgent = stock.get("user-agent") ?? "";
  stock.delete("user-agent");
  return {
    header: [...stock, ["user-agent", userAgent]].flat(),
    timeout: { name: "grpc-timeout", suffix: "m" },
  };
}

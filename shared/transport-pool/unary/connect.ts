import { requestHeaderWithCompression } from "@connectrpc/connect/protocol-connect";
import { acceptCompression, type CreateUnaryMethod, serializationOf } from "./answer.ts";
import { ConnectAnswer } from "./connect-answer.ts";

/** The Connect protocol. */
export const createConnectMethod: CreateUnaryMethod = (method, readMaxBytes) => {
  const { serialize, output, unreadOutput } = serializationOf(method, readMaxBytes);
  const read = { method, output, readMaxBytes };
  const unread = { ...read, output: unreadOutput };
  const stock = requestHeaderWithCompression("unary", true, undefined, undefined, acceptCompression, null, true);
  const userAgent = stock.get("user-agent") ?? "";
  stock.delete("user-agent");
  return {
    header: [...stock, ["user-agent", userAgent]].flat(),
    timeout: { name: "connect-timeout-ms", suffix: "" },
    // Nothing is compressed, whatever an interceptor says.
    omit: "content-encoding",
    httpMethod: ({ requestMethod }) => requestMethod,
    serialize,
    expect: (context) => new ConnectAnswer(context.isUnread ? unread : read, context),
  };
};

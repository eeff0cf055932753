import { Code, ConnectError, type UnaryResponse } from "@connectrpc/connect";
import {
  type Compression,
  pipeTo,
  transformDecompressEnvelope,
  transformParseEnvelope,
  transformSplitEnvelope,
} from "@connectrpc/connect/protocol";
import type { Output } from "./answer.ts";
import type { Body } from "./body.ts";

type Message = UnaryResponse["message"];

/** The one message of an answer, by Connect's own transforms. */
export async function readMessage(
  body: Body,
  compression: Compression | null,
  output: Output,
  readMaxBytes: number,
): Promise<Message | undefined> {
  return await pipeTo(
    body,
    transformSplitEnvelope(readMaxBytes),
    transformDecompressEnvelope(compression, readMaxBytes),
    transformParseEnvelope(output),
    async (messages) => {
      let message: Message | undefined;
      for await (const one of messages) {
        if (message !== undefined) {
          throw new ConnectError("protocol error: received extra output message for unary method", Code.Unimplemented);
        }
        message = one;
      }
      return message;
    },
    { propagateDownStreamError: false },
  );
}

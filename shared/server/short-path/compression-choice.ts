import { type Compression, compressionNegotiate } from "@connectrpc/connect/protocol";
import type { Request } from "../unary/answer.ts";
import type { UnaryDialect } from "./ordinary.ts";

/** Callers write what they accept in a few ways; one who thinks of more of them is not remembered. */
const MAX_ACCEPTED = 64;

/** Says how an answer may be compressed, as Connect would. */
export function createCompressionChoice(
  acceptCompression: Compression[],
): (dialect: UnaryDialect, request: Pick<Request, "headers">) => Compression | null {
  const accepted = new Map<string, Compression | null>();
  return ({ acceptHeader }, { headers }) => {
    const accept = headers[acceptHeader];
    if (accept === undefined || accept === "") return null;
    const names = String(accept);
    const known = accepted.get(names);
    if (known !== undefined) return known;
    const { response } = compressionNegotiate(acceptCompression, null, names, acceptHeader);
    if (accepted.size < MAX_ACCEPTED) accepted.set(names, response);
    return response;
  };
}

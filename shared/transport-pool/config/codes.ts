import { Code } from "@connectrpc/connect";
import { z } from "zod";

const codesByName: ReadonlyMap<string, Code> = new Map([
  ["CANCELLED", Code.Canceled],
  ["CANCELED", Code.Canceled],
  ["UNKNOWN", Code.Unknown],
  ["INVALID_ARGUMENT", Code.InvalidArgument],
  ["DEADLINE_EXCEEDED", Code.DeadlineExceeded],
  ["NOT_FOUND", Code.NotFound],
  ["ALREADY_EXISTS", Code.AlreadyExists],
  ["PERMISSION_DENIED", Code.PermissionDenied],
  ["RESOURCE_EXHAUSTED", Code.ResourceExhausted],
  ["FAILED_PRECONDITION", Code.FailedPrecondition],
  ["ABORTED", Code.Aborted],
  ["OUT_OF_RANGE", Code.OutOfRange],
  ["UNIMPLEMENTED", Code.Unimplemented],
  ["INTERNAL", Code.Internal],
  ["UNAVAILABLE", Code.Unavailable],
  ["DATA_LOSS", Code.DataLoss],
  ["UNAUTHENTICATED", Code.Unauthenticated],
]);

const codeSchema = z.string().transform((name, context): Code => {
  const code = codesByName.get(name.toUpperCase());
  if (code !== undefined) return code;
  const message = `${JSON.stringify(name)} is no code of a failure; expected one such as UNAVAILABLE or ABORTED`;
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});

/**
 * A list of codes by their names, in any case, as gRPC or Connect spells them: `[UNAVAILABLE, aborted]`. Never empty
 * (gRFC A6); `OK` is none of them.
 */
export const codesSchema = z
  .array(codeSchema)
  .min(1, "name at least one code")
  .transform((codes): Code[] => [...new Set(codes)]);

/**
 * Those that a peer in trouble, or the way to it, answers with. RESOURCE_EXHAUSTED is not among them: it speaks of this
 * caller's quota or of a message that is too large, and other calls may go well; overload is UNAVAILABLE. Neither is
 * ABORTED, a conflict between callers. UNKNOWN is, since gRPC makes it of whatever a handler throws.
 */
const serverFaults: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.Internal,
  Code.Unknown,
  Code.DataLoss,
]);

/** Whether the code says that the peer or the way to it is unwell, and not that the call was wrong or has its answer. */
export function isServerFault(code: Code): boolean {
  return serverFaults.has(code);
}

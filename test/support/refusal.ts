import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";

/** What callers may rely on when a call is refused. */
export interface Refusal {
  readonly code: keyof typeof Code;
  readonly reason: string | undefined;
  /** Which service says so. */
  readonly domain: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields at fault. */
  readonly fields: readonly string[];
}

/** How a call was refused; fails when it was not. */
export async function refusalOf(call: Promise<unknown>): Promise<Refusal> {
  const error = await call.then(
    (answer) => assert.fail(`answered: ${String(answer)}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ConnectError, String(error));
  const infos = error.findDetails(ErrorInfoSchema);
  assert.ok(infos.length <= 1, "one ErrorInfo at most");
  return {
    code: Code[error.code] as keyof typeof Code,
    reason: infos[0]?.reason,
    domain: infos[0]?.domain,
    metadata: infos[0]?.metadata ?? {},
    fields: error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations.map(({ field }) => field)),
  };
}

import type { ServerResponse } from "node:http";
import type { Http2ServerResponse } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "#shared/logging";

export interface GiveUpOptions {
  readonly logger: Logger;
  readonly method: string;
  readonly response: ServerResponse | Http2ServerResponse;
}

/** Ends an answer that cannot be written. @returns what it tells */
export function giveUp(err: unknown, { logger, method, response }: GiveUpOptions): ConnectError {
  logger.error({ err, method }, "call cannot be answered");
  if (!response.headersSent) {
    // One of them may be what cannot be written, and would fail the end as well.
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    response.statusCode = 500;
    response.end();
  } else {
    response.destroy(err instanceof Error ? err : undefined);
  }
  return new ConnectError("the call cannot be answered", Code.Internal, undefined, undefined, err);
}

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { createContextValues } from "@connectrpc/connect";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import { type CallInfo, callInfoKey } from "./call-info.ts";
import { hangUpSignal } from "./hang-up.ts";

/**
 * A request as Connect's handlers take it, less its body. Its URL has a host of no meaning: what clients send as
 * authority need not fit into one (Node's HTTP/2 client writes IPv6 addresses without brackets).
 */
export function toUniversalRequest(
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
  info: CallInfo,
): Omit<UniversalServerRequest, "body"> {
  return {
    httpVersion: request.httpVersion,
    method: request.method ?? "",
    url: `http://server${pathOf(request.url ?? "/")}`,
    header: toWebHeaders(request.headers),
    signal: hangUpSignal(response),
    contextValues: createContextValues().set(callInfoKey, info),
  };
}

/** Without the `http://host` with which HTTP/1.1 may name it in full. */
function pathOf(target: string): string {
  return target.replace(/^[a-z]+:\/\/[^/?#]*/i, "");
}

function toWebHeaders(headers: NodeJS.Dict<string | string[]>): Headers {
  const webHeaders = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(":")) continue;
    if (typeof value === "string") webHeaders.append(name, value);
    else for (const item of value) webHeaders.append(name, item);
  }
  return webHeaders;
}

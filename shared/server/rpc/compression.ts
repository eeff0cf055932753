import type { IncomingHttpHeaders } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { WireFormat } from "./wire-format.ts";

export type Compression = typeof compressionGzip;

/** In the order of preference. */
export const compressions: Compression[] = [compressionGzip, compressionBrotli];
const byName: ReadonlyMap<string, Compression> = new Map(compressions.map((each) => [each.name, each]));
const NAMES = [...byName.keys()].join(",");

/** Callers write what they accept in a few ways; one that thinks of more of them is not remembered. */
const MAX_REMEMBERED = 64;
const remembered = new Map<string, Compression | null>();

/**
 * What a call's messages are compressed with. Null: they are not.
 *
 * @throws ConnectError UNIMPLEMENTED for an encoding that is not known, with those that are (gRPC's compression.md)
 */
export function requestCompression(headers: IncomingHttpHeaders, format: WireFormat): Compression | null {
  const name = headers[format.encodingHeader];
  if (name === undefined || name === "identity") return null;
  const compression = byName.get(String(name));
  if (compression !== undefined) return compression;
  throw new ConnectError(`unknown compression "${name}": supported encodings are ${NAMES}`, Code.Unimplemented, {
    [format.acceptHeader]: NAMES,
  });
}

/** What its responses are compressed with: the first encoding that the caller accepts, or else that of its request. */
export function responseCompression(
  headers: IncomingHttpHeaders,
  format: WireFormat,
  request: Compression | null,
): Compression | null {
  const accepted = headers[format.acceptHeader];
  if (accepted === undefined || accepted === "") return request;
  const names = String(accepted);
  const known = remembered.get(names);
  if (known !== undefined) return known;
  let found: Compression | null = null;
  for (const name of names.split(",")) {
    found = byName.get(name.trim()) ?? null;
    if (found !== null) break;
  }
  if (remembered.size < MAX_REMEMBERED) remembered.set(names, found);
  return found;
}

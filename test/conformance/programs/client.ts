/**
 * The client under test: reads the calls that the runner asks for from stdin and writes their results to stdout.
 *
 *   --parallel n   calls at once; default 16
 *   --fallback     `fast_path: false`: Connect's own transports make every call
 */
import { parseArgs } from "node:util";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { makeCall } from "./call.ts";
import { readMessages, withLength } from "./framing.ts";
import { PemFiles } from "./pem-files.ts";
import { Pools } from "./pools.ts";
import { type ClientCompatRequest, ClientCompatRequestSchema, ClientCompatResponseSchema } from "./protos.ts";
import { createStderrLogger } from "./stderr-logger.ts";

const { values: flags } = parseArgs({
  options: { parallel: { type: "string", default: "16" }, fallback: { type: "boolean", default: false } },
});
const parallel = Number(flags.parallel);
if (!(parallel >= 1)) throw new RangeError("--parallel must be 1 or more");

const files = new PemFiles();
process.once("exit", () => files.remove());
process.once("SIGTERM", () => process.exit(0));

const pools = new Pools(files, createStderrLogger("conformance-client"), !flags.fallback);
const running = new Set<Promise<void>>();
for await (const bytes of readMessages(process.stdin)) {
  const one = respondTo(fromBinary(ClientCompatRequestSchema, bytes)).finally(() => running.delete(one));
  running.add(one);
  while (running.size >= parallel) await Promise.race(running);
}
await Promise.all(running);
await pools.close();

async function respondTo(request: ClientCompatRequest): Promise<void> {
  const result = await resultOf(request);
  const response = create(ClientCompatResponseSchema, { testName: request.testName, result });
  process.stdout.write(withLength(toBinary(ClientCompatResponseSchema, response)));
}

async function resultOf(
  request: ClientCompatRequest,
): Promise<NonNullable<MessageInitShape<typeof ClientCompatResponseSchema>["result"]>> {
  try {
    return { case: "response", value: await pools.use(request, (transport) => makeCall(transport, request)) };
  } catch (error) {
    return { case: "error", value: { message: String(error) } };
  }
}

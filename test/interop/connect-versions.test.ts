// Connect stays at the newest version that @connectrpc/connect-fastify supports. The next version is installed under an
// alias (`connect-2.3`), and `node --import ./test/support/connect-2.3.ts` puts it in the place of the installed one. Here
// are the differences that Meridian can meet when it moves; test/conformance runs on both versions.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { repository } from "../support/service-process.ts";

const differences = {
  "2.2": {
    // `break` in a `for await` over responses leaves the call running, and the loops of interceptors too.
    reader: { isHandlerCancelled: false, isInterceptorEnded: false },
    // The iterator of request messages learns of a cancellation during the call only, by the signal's reason.
    cancelledBefore: [],
    cancelledAfter: ["throw Error: no more", "return"],
    // A server refuses a request over HTTP/1.1 at once and then closes the connection.
    refusal: { respondsBeforeEnd: true, status: 415 },
  },
  "2.3": {
    // `break` cancels the call, and interceptors read to its end.
    reader: { isHandlerCancelled: true, isInterceptorEnded: true },
    // The iterator learns of each cancellation, by a ConnectError.
    cancelledBefore: ["throw ConnectError: [canceled] no more", "return"],
    cancelledAfter: ["throw ConnectError: [canceled] no more", "return"],
    // A server reads up to 256 KiB of the request before it refuses it, without a limit in time.
    refusal: { respondsBeforeEnd: false, status: 415 },
  },
};

describe("Connect", () => {
  test("2.2 is installed, and 2.3 under an alias", async () => {
    assert.match((await manifestOf("@connectrpc/connect")).version, /^2\.2\./);
    assert.match((await manifestOf("connect-2.3")).version, /^2\.3\./);
    assert.match((await manifestOf("connect-node-2.3")).version, /^2\.3\./);
  });

  for (const [version, expected] of Object.entries(differences)) {
    test(`${version} differs from the other version in these ways`, async () => {
      const hook = version === "2.3" ? ["--import", "./test/support/connect-2.3.ts"] : [];
      const args = [...hook, "test/interop/connect-versions/observe.ts"];
      const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: repository, timeout: 60_000 });
      assert.deepEqual(JSON.parse(stdout), expected);
    });
  }

  test("moves with its Fastify plugin", async () => {
    const { version } = await manifestOf("@connectrpc/connect");
    const plugin = await manifestOf("@connectrpc/connect-fastify");
    assert.equal(
      plugin.peerDependencies?.["@connectrpc/connect"],
      version,
      `@connectrpc/connect-fastify ${plugin.version} is made for another Connect than ${version}: move @connectrpc/connect, ` +
        "connect-node and connect-web to its version, and remove the aliases of that version with their override",
    );
  });
});

interface Manifest {
  readonly version: string;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

async function manifestOf(name: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(repository, "node_modules", name, "package.json"), "utf8"));
}

import assert from "node:assert/strict";
import { once } from "node:events";
import http, { type ServerResponse } from "node:http";
import net, { type AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { endTogether } from "./end-together.ts";

const REQUEST = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/** A response that waits for its end, and its caller's socket. */
async function startResponse(t: TestContext): Promise<{ response: ServerResponse; caller: net.Socket }> {
  const server = http.createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const caller = net.connect((server.address() as AddressInfo).port, "127.0.0.1");
  t.after(() => caller.destroy());
  caller.write(REQUEST);
  const [, response] = (await once(server, "request")) as [unknown, ServerResponse];
  return { response, caller };
}

function begin(response: ServerResponse, body: Uint8Array): void {
  response.setHeader("content-length", String(body.length));
  response.writeHead(200);
}

async function bodyOf(caller: net.Socket, length: number): Promise<Buffer> {
  let received = Buffer.alloc(0);
  for await (const chunk of caller) {
    received = Buffer.concat([received, chunk as Buffer]);
    const end = received.indexOf("\r\n\r\n");
    if (end !== -1 && received.length - end - 4 >= length) return received.subarray(end + 4);
  }
  throw new Error("the connection was closed");
}

for (const size of [0, 1, 300, 20_000]) {
  test(`a body of ${size} bytes arrives as it was`, { timeout: 5_000 }, async (t) => {
    const { response, caller } = await startResponse(t);
    const body = Uint8Array.from({ length: size }, (_, index) => index);
    begin(response, body);
    endTogether(response, body);
    assert.deepEqual(new Uint8Array(await bodyOf(caller, size)), body);
  });
}

test("nothing is written for a caller who has left in the meantime", { timeout: 5_000 }, async (t) => {
  const { response } = await startResponse(t);
  const other = await startResponse(t);
  const errors: unknown[] = [];
  response.on("error", (error) => errors.push(error));
  const body = Uint8Array.of(1);
  for (const one of [response, other.response]) {
    begin(one, body);
    endTogether(one, body);
  }
  response.destroy();
  assert.deepEqual(new Uint8Array(await bodyOf(other.caller, 1)), body);
  await nextTurn();
  assert.deepEqual(errors, []);
});

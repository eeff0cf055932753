import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { until, within } from "#shared/testing";
import { type HttpRequest, request, stream } from "./http-client.ts";
import { RegistryError } from "./registry-error.ts";

async function serverForTest(t: TestContext, respond: http.RequestListener, tls?: https.ServerOptions) {
  const server = tls === undefined ? http.createServer(respond) : https.createServer(tls, respond);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const connections = () => new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
  return { port, connections };
}

function requestTo(port: number, more: Partial<HttpRequest> = {}): HttpRequest {
  const base = `http://127.0.0.1:${port}/`;
  return { method: "GET", base, path: "/x?y=1", timeoutMs: 10_000, signal: new AbortController().signal, ...more };
}

async function all(values: AsyncIterable<unknown>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const value of values) found.push(value);
  return found;
}

test("an answer is JSON, with its headers; a body is sent as JSON", async (t) => {
  const { port } = await serverForTest(t, async (incoming, response) => {
    const chunks = await Array.fromAsync(incoming as AsyncIterable<Buffer>);
    const body = Buffer.concat(chunks).toString("utf8");
    const answer = { method: incoming.method, url: incoming.url, type: incoming.headers["content-type"], body };
    response.writeHead(200, { "x-index": "7" }).end(JSON.stringify(answer));
  });
  const { headers, body } = await request(requestTo(port, { method: "PUT", body: { a: "ü" } }));
  assert.equal(headers["x-index"], "7");
  assert.deepEqual(body, { method: "PUT", url: "/x?y=1", type: "application/json", body: '{"a":"ü"}' });
});

test("an answer without a body is undefined; one that is no JSON is an error", async (t) => {
  const { port } = await serverForTest(t, ({ url }, response) => response.end(url === "/none" ? "" : "<html>"));
  assert.equal((await request(requestTo(port, { path: "/none" }))).body, undefined);
  await assert.rejects(request(requestTo(port)), {
    message: `http://127.0.0.1:${port}/ answered with what is no JSON`,
  });
});

test("a refusal is an error with its status and reason, of a stream too", async (t) => {
  const { port } = await serverForTest(t, (_, response) => response.writeHead(403).end("no permission\n"));
  for (const ask of [request, stream]) {
    await assert.rejects(ask(requestTo(port)), (error: RegistryError) => {
      assert.ok(error instanceof RegistryError);
      assert.equal(error.status, 403);
      assert.equal(error.message, `http://127.0.0.1:${port}/ answered 403 to GET /x: no permission`);
      return true;
    });
  }
});

test("a server that is silent, or stops in the middle, is given up after the timeout", async (t) => {
  const { port, connections } = await serverForTest(t, ({ url }, response) => {
    if (url === "/half") response.writeHead(200).write("[1,");
  });
  for (const path of ["/silent", "/half"]) {
    await assert.rejects(request(requestTo(port, { path, timeoutMs: 50 })), (error: RegistryError) => {
      assert.equal(error.status, undefined);
      assert.match(error.message, /cannot be reached: no answer within 50 ms$/);
      return true;
    });
  }
  await until("its connections to end", async () => (await connections()) === 0);
});

test("a server that is not there is an error that names it", async (t) => {
  const { port } = await serverForTest(t, (_, response) => response.end());
  const missing = requestTo(port, { base: "http://127.0.0.1:1" });
  await assert.rejects(request(missing), { message: /^http:\/\/127\.0\.0\.1:1 cannot be reached: .*ECONNREFUSED/ });
  // Node's own error for a name with several addresses says nothing.
  const named = requestTo(port, { base: "http://localhost:1" });
  await assert.rejects(request(named), { message: /^http:\/\/localhost:1 cannot be reached: .*ECONNREFUSED/ });
});

test("a signal ends a request with its own reason, and its connection", async (t) => {
  const { port, connections } = await serverForTest(t, () => {});
  const controller = new AbortController();
  const asked = request(requestTo(port, { signal: controller.signal }));
  await until("the connection", async () => (await connections()) === 1);
  const reason = new Error("enough");
  controller.abort(reason);
  await assert.rejects(within(asked), reason);
  await until("its connections to end", async () => (await connections()) === 0);
  await assert.rejects(request(requestTo(port, { signal: controller.signal })), reason);
});

test("a stream's values come as they are sent, however they are cut, and end with it", async (t) => {
  const { port } = await serverForTest(t, async (_, response) => {
    const bytes = Buffer.from('{"a":"ü"}\n\n[1,\t2]\r\n"last"\n', "utf8");
    for (const byte of bytes) {
      response.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    response.end();
  });
  assert.deepEqual(await all(await stream(requestTo(port))), [{ a: "ü" }, [1, 2], "last"]);
});

test("a stream outlives its timeout, which is for its head", async (t) => {
  const held: http.ServerResponse[] = [];
  const { port } = await serverForTest(t, (_, response) => {
    response.writeHead(200).write("1\n");
    held.push(response);
  });
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const values = (await stream(requestTo(port)))[Symbol.asyncIterator]();
  assert.equal((await values.next()).value, 1);
  t.mock.timers.tick(60_000);
  held[0]?.end("2\n");
  assert.equal((await values.next()).value, 2);
  assert.equal((await values.next()).done, true);
});

test("a stream whose connection is lost, or whose line is no JSON, fails", async (t) => {
  const { port } = await serverForTest(t, ({ url }, response) => {
    response.writeHead(200).write("1\n{\n");
    if (url === "/lost") setImmediate(() => response.socket?.resetAndDestroy());
  });
  const lost = requestTo(port, { path: "/lost" });
  await assert.rejects(async () => all(await stream(lost)), { name: "RegistryError", message: /was lost: / });
  await assert.rejects(async () => all(await stream(requestTo(port))), { name: "RegistryError", message: /JSON/ });
});

test("a stream that is signalled to end, or left, leaves no connection", async (t) => {
  const { port, connections } = await serverForTest(t, (_, response) => void response.writeHead(200).write("1\n"));
  const controller = new AbortController();
  const values = (await stream(requestTo(port, { signal: controller.signal })))[Symbol.asyncIterator]();
  await values.next();
  const next = values.next();
  controller.abort(new Error("enough"));
  await assert.rejects(within(Promise.resolve(next)), { message: "enough" });
  for await (const value of await stream(requestTo(port))) {
    assert.equal(value, 1);
    break;
  }
  await until("its connections to end", async () => (await connections()) === 0);
});

test("https is trusted by the configured authority, whose file is read anew each time", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "registry-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [key, cert] = [join(folder, "tls.key"), join(folder, "tls.crt")];
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key];
  const subject = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync("openssl", ["req", "-x509", "-days", "1", ...newKey, ...subject, "-out", cert], { stdio: "ignore" });
  const tls = { key: readFileSync(key), cert: readFileSync(cert) };
  const { port } = await serverForTest(t, (_, response) => response.end("1"), tls);
  const secure = requestTo(port, { base: `https://127.0.0.1:${port}` });
  assert.equal((await request(secure, { caFile: cert })).body, 1);
  await assert.rejects(request(secure), { message: /cannot be reached: self-signed certificate/ });
  rmSync(cert);
  await assert.rejects(request(secure, { caFile: cert }), { message: /cannot be reached: ENOENT/ });
});

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { type TestContext, test } from "node:test";
import { adminSection, createAdminServer } from "#shared/server";
import { callHttp1, connectTcp, recordLog, within } from "#shared/testing";

type Pages = Readonly<Record<string, () => unknown>>;

async function startAdmin(t: TestContext, pages: Pages = {}) {
  const log = recordLog();
  const admin = createAdminServer({ config: adminSection.parse({ port: 0 }), logger: log.logger, pages });
  t.after(() => admin.stop());
  await admin.start();
  return { admin, url: admin.url, port: Number(new URL(admin.url).port), log };
}

test("it listens on this machine alone unless told otherwise", () => {
  assert.deepEqual(adminSection.parse({ port: 9101 }), { host: "127.0.0.1", port: 9101 });
  for (const port of [-1, 65_536, 1.5, undefined]) assert.equal(adminSection.safeParse({ port }).success, false);
});

test("a page answers its value of now as JSON, which nobody may keep", async (t) => {
  let calls = 0;
  const { url } = await startAdmin(t, { "/debug/pool": () => ({ calls: ++calls }), "/debug/later": async () => [1] });
  for (const expected of [{ calls: 1 }, { calls: 2 }]) {
    const response = await fetch(`${url}/debug/pool?x=1`);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type") ?? "", /^application\/json/);
    assert.equal(response.headers.get("cache-control"), "no-store");
    assert.deepEqual(await response.json(), expected);
  }
  assert.deepEqual(await (await fetch(`${url}/debug/later`)).json(), [1]);
});

test("a page without a value answers null", async (t) => {
  const { url } = await startAdmin(t, { "/debug/nothing": () => undefined });
  assert.equal(await (await fetch(`${url}/debug/nothing`)).json(), null);
});

test("GET / lists the pages, and /healthz is alive", async (t) => {
  const { url } = await startAdmin(t, { "/debug/pool": () => 1, "/debug/config": () => 2 });
  assert.deepEqual(await (await fetch(url)).json(), { pages: ["/debug/pool", "/debug/config"] });
  const health = await fetch(`${url}/healthz`);
  assert.equal(health.status, 200);
  assert.deepEqual(await health.json(), { status: "alive" });
});

test("other paths answer 404 and other methods 405, as JSON, whatever they send", async (t) => {
  const { url } = await startAdmin(t, { "/debug/pool": () => assert.fail("the page was asked") });
  for (const path of ["/debug", "/debug/pool/x", "/debug/pool/", "/toString"]) {
    const response = await fetch(`${url}${path}`);
    assert.equal(response.status, 404);
    assert.equal(((await response.json()) as { code: string }).code, "not_found");
  }
  for (const path of ["/", "/healthz", "/debug/pool"]) {
    for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
      const body = method === "OPTIONS" ? {} : { body: "{broken", headers: { "content-type": "application/json" } };
      const response = await fetch(`${url}${path}`, { method, ...body });
      assert.equal(response.status, 405);
      assert.equal(response.headers.get("allow"), "GET, HEAD");
      assert.equal(((await response.json()) as { code: string }).code, "unimplemented");
    }
  }
});

test("what is not even a path answers in JSON too", async (t) => {
  const { url } = await startAdmin(t);
  const { status, body } = await callHttp1(url, "/%ff", { ":method": "GET" });
  assert.ok(status >= 400 && status < 500);
  assert.equal(typeof JSON.parse(body.toString()), "object");
});

test("a page that fails answers 500, tells nothing, and is logged", async (t) => {
  const cyclic: Record<string, unknown> = {};
  cyclic["self"] = cyclic;
  const { url, log } = await startAdmin(t, {
    "/debug/throws": () => {
      throw Object.assign(new Error("the password is hunter2"), { statusCode: 404 });
    },
    "/debug/rejects": () => Promise.reject(new Error("the password is hunter2")),
    "/debug/cyclic": () => cyclic,
  });
  for (const page of ["/debug/throws", "/debug/rejects", "/debug/cyclic"]) {
    const response = await fetch(`${url}${page}`);
    assert.equal(response.status, 500);
    assert.deepEqual(await response.json(), { code: "internal", message: "internal error" });
    await log.line({ level: "error", page });
  }
});

test("a stop waits for no connection, idle or busy, and closes the port", async (t) => {
  const { admin, url, port } = await startAdmin(t, { "/debug/hangs": () => new Promise(() => {}) });
  const agent = new http.Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const [response] = (await once(http.get(`${url}/healthz`, { agent }), "response")) as [http.IncomingMessage];
  await once(response.resume(), "end");
  const silent = await connectTcp(t, port);
  const busy = fetch(`${url}/debug/hangs`).catch((error: unknown) => error);
  await within(admin.stop(), "the stop", 3_000);
  await within(silent.closed, "the close of a connection");
  assert.ok((await within(busy, "the end of a request")) instanceof Error);
  await assert.rejects(fetch(`${url}/healthz`));
  await admin.stop();
  await assert.rejects(admin.start());
});

test("a port that is taken fails the start with its own error", async (t) => {
  const { port } = await startAdmin(t);
  const config = adminSection.parse({ port });
  const second = createAdminServer({ config, logger: recordLog().logger, pages: {} });
  t.after(() => second.stop());
  await assert.rejects(second.start(), { code: "EADDRINUSE" });
  assert.throws(() => second.url);
});

test("a page's path must be a plain one and not the server's own", () => {
  const config = adminSection.parse({ port: 0 });
  for (const path of ["/", "/healthz", "debug", "/debug/", "/debug/:id", "/*", ""]) {
    assert.throws(
      () => createAdminServer({ config, logger: recordLog().logger, pages: { [path]: () => 1 } }),
      TypeError,
    );
  }
});

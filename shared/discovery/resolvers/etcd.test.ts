import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  closeAfter,
  type EtcdForTest,
  etcdForTest,
  recordLog,
  startTcpProxy,
  type TcpProxy,
  until,
} from "#shared/testing";
import { follow } from "../test-support/follow.ts";

const ADDRESS = "etcd:///shop/book";

function put(etcd: EtcdForTest, address: string, more: object = {}): Promise<void> {
  return etcd.put(`shop/book/${address}`, JSON.stringify({ Op: 0, Addr: address, ...more }));
}

/** Closed when nothing is connected: a socket that is reset while it is ending is never closed (Node 24). */
async function proxyForTest(t: TestContext, etcd: EtcdForTest): Promise<TcpProxy> {
  const proxy = await startTcpProxy({ port: etcd.port });
  closeAfter(t, async () => {
    await etcd.stop();
    await until("no connection", () => proxy.connections === 0);
    await proxy.close();
  });
  return proxy;
}

test("values are read as etcd's Go package writes them, whatever its users' metadata is", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  await put(etcd, "10.0.0.1:1", { Metadata: null });
  await put(etcd, "10.0.0.2:1", { Metadata: { weight: 3, zone: "a" } });
  await put(etcd, "10.0.0.3:1", { Metadata: "text" });
  await put(etcd, "10.0.0.4:1", { Metadata: { weight: -1 } });
  await put(etcd, "10.0.0.5:1", { Op: 1 });
  await etcd.put("shop/bookshelf/10.0.0.6:1", '{"Op":0,"Addr":"10.0.0.6:1"}');
  const { told } = follow(t, ADDRESS, { etcd: { endpoints: [etcd.url] } });
  await until("the set", () => told.sets.length > 0);
  assert.deepEqual(told.sets[0], [
    { address: "10.0.0.1:1", weight: 1, priority: 0 },
    { address: "10.0.0.2:1", weight: 3, priority: 0 },
    { address: "10.0.0.3:1", weight: 1, priority: 0 },
    { address: "10.0.0.4:1", weight: 1, priority: 0 },
  ]);
  await put(etcd, "10.0.0.2:1", { Metadata: { weight: 4 } });
  await until("another weight", () => told.sets[1]?.[1]?.weight === 4);
});

test("an entry that is no endpoint is left out, and logged once", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  await etcd.put("shop/book/x", "no JSON");
  await etcd.put("shop/book/y", '{"Op":0,"Addr":"no address"}');
  await put(etcd, "10.0.0.1:1");
  const log = recordLog();
  const { told } = follow(t, ADDRESS, { etcd: { endpoints: [etcd.url] } }, log.logger);
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  await etcd.put("shop/book/x", "still no JSON");
  await put(etcd, "10.0.0.2:1");
  await until("the next set", () => told.addresses() === "10.0.0.1:1,10.0.0.2:1");
  const warnings = log.matching({ level: "warn" }).map((line) => line["key"]);
  assert.deepEqual(warnings, ["shop/book/x", "shop/book/y"]);
});

test("what was missed while the watch was lost is there again, though it was compacted since", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const proxy = await proxyForTest(t, etcd);
  await put(etcd, "10.0.0.1:1");
  const { told } = follow(t, ADDRESS, { etcd: { endpoints: [`http://127.0.0.1:${proxy.port}`] } });
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  await until("only the watch to be connected", () => proxy.accepted === 2 && proxy.connections === 1);
  proxy.refuse();
  await put(etcd, "10.0.0.2:1");
  await etcd.delete("shop/book/10.0.0.1:1");
  const answer = (await etcd.call("/v3/kv/range", { key: "eA==" })) as { header: { revision: string } };
  await etcd.call("/v3/kv/compaction", { revision: answer.header.revision });
  await until("a failure", () => told.errors.length > 0);
  proxy.accept();
  await until("the next set", () => told.addresses() === "10.0.0.2:1");
});

test("an etcd that lost its data is not believed while services come back to it", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  await put(etcd, "10.0.0.1:1");
  const log = recordLog();
  const discovery = { etcd: { endpoints: [etcd.url] }, empty_grace: "1h" };
  const { told } = follow(t, ADDRESS, discovery, log.logger);
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  await etcd.stop();
  await etcd.forget();
  await etcd.start();
  await log.line({ msg: `${ADDRESS} lists no endpoints any more; the last ones stay for a while` });
  await put(etcd, "10.0.0.1:1");
  await put(etcd, "10.0.0.2:1");
  await until("the next set", () => told.addresses() === "10.0.0.1:1,10.0.0.2:1");
  assert.equal(told.sets.length, 2);
});

test("members that are down are passed over, and one that goes is followed by another", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const [first, second] = await Promise.all([proxyForTest(t, etcd), proxyForTest(t, etcd)]);
  const endpoints = [first, second].map(({ port }) => `http://127.0.0.1:${port}`);
  first.refuse();
  await put(etcd, "10.0.0.1:1");
  const { told } = follow(t, ADDRESS, { etcd: { endpoints } });
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  assert.deepEqual(told.errors, []);
  first.accept();
  await until("only the watch to be connected", () => second.accepted === 2 && second.connections === 1);
  second.refuse();
  await until("the first to be used", () => first.connections > 0);
  await put(etcd, "10.0.0.2:1");
  await until("the next set", () => told.addresses() === "10.0.0.1:1,10.0.0.2:1");
});

test("a watch that has gone silent is found out when connections fail", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const proxy = await proxyForTest(t, etcd);
  await put(etcd, "10.0.0.1:1");
  const discovery = { etcd: { endpoints: [`http://127.0.0.1:${proxy.port}`] }, min_refresh: "10ms" };
  const { told, resolver } = follow(t, ADDRESS, discovery);
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  proxy.stall();
  await put(etcd, "10.0.0.2:1");
  resolver.refresh();
  await until("a failure", () => told.errors.length > 0);
  assert.match(told.errors[0]?.message ?? "", /cannot be reached: no answer within 3000 ms$/);
  proxy.resume();
  await until("the next set", () => told.addresses() === "10.0.0.1:1,10.0.0.2:1");
});

test("signs in with a name and a password, and again when its token has ended", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  await put(etcd, "10.0.0.1:1");
  await etcd.call("/v3/auth/user/add", { name: "root", password: "secret" });
  await etcd.call("/v3/auth/role/add", { name: "root" });
  await etcd.call("/v3/auth/user/grant", { user: "root", role: "root" });
  await etcd.call("/v3/auth/enable", {});
  const etcdAs = (password: string) => ({ etcd: { endpoints: [etcd.url], username: "root", password } });
  const { told } = follow(t, ADDRESS, etcdAs("secret"));
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  const refused = follow(t, ADDRESS, etcdAs("wrong"));
  await until("a refusal", () => refused.told.errors.length > 0);
  assert.match(
    refused.told.errors[0]?.message ?? "",
    /answered 400 to POST \/v3\/auth\/authenticate: .*authentication failed/,
  );
  // Its tokens are forgotten with the process.
  await etcd.stop();
  await until("a failure", () => told.errors.length > 0);
  await etcd.start();
  const { token } = (await etcd.call("/v3/auth/authenticate", { name: "root", password: "secret" })) as {
    token: string;
  };
  const entry = { key: base64("shop/book/10.0.0.2:1"), value: base64('{"Op":0,"Addr":"10.0.0.2:1"}') };
  await etcd.call("/v3/kv/put", entry, { authorization: token });
  await until("the next set", () => told.addresses() === "10.0.0.1:1,10.0.0.2:1");
});

function base64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { until } from "#shared/testing";
import { type FakeKubernetes, type FakeSlice, startFakeKubernetes } from "../test-support/fake-kubernetes.ts";
import { follow } from "../test-support/follow.ts";

async function kubernetesForTest(t: TestContext): Promise<FakeKubernetes> {
  const kubernetes = await startFakeKubernetes("shop");
  t.after(() => kubernetes.stop());
  return kubernetes;
}

function sliceOf(name: string, ...addresses: string[]): FakeSlice {
  const endpoints = addresses.map((address) => ({ address, ready: true }));
  return { name, service: "book", ports: [{ name: "grpc", port: 1 }], endpoints };
}

const lists = ({ asked }: FakeKubernetes) => asked.filter((url) => !url.searchParams.has("watch")).length;
const watches = ({ asked }: FakeKubernetes) => asked.filter((url) => url.searchParams.has("watch"));

test("slices are put together; who is not ready is left out, who says nothing is ready", async (t) => {
  const kubernetes = await kubernetesForTest(t);
  const ports = [
    { name: "http", port: 80 },
    { name: "grpc", port: 9002 },
  ];
  const endpoints = [
    { address: "10.0.0.1", ready: true },
    { address: "10.0.0.2", ready: false },
    { address: "10.0.0.3" },
  ];
  kubernetes.put({ name: "book-1", service: "book", ports, endpoints });
  const six = [{ address: "fd00::4", ready: true }];
  kubernetes.put({
    name: "book-2",
    service: "book",
    addressType: "IPv6",
    ports: [{ name: "grpc", port: 1 }],
    endpoints: six,
  });
  kubernetes.put({ name: "book-3", service: "book", ports: [], endpoints: [{ address: "10.0.0.5", ready: true }] });
  kubernetes.put({ ...sliceOf("user-1", "10.0.0.6"), service: "user" });
  const k8s = { api_server: kubernetes.url(), namespace: "shop" };
  const byName = follow(t, "k8s:///book:grpc", { k8s });
  await until("the set", () => byName.told.addresses() === "10.0.0.1:9002,10.0.0.3:9002,[fd00::4]:1");
  const byNumber = follow(t, "k8s:///book.shop:7", { k8s });
  await until("the set", () => byNumber.told.addresses() === "10.0.0.1:7,10.0.0.3:7,10.0.0.5:7,[fd00::4]:7");
  kubernetes.delete("book-1");
  await until("the next set", () => byName.told.addresses() === "[fd00::4]:1");
});

test("a watch that ends in peace goes on from the last bookmark, without a list", async (t) => {
  const kubernetes = await kubernetesForTest(t);
  kubernetes.put(sliceOf("book-1", "10.0.0.1"));
  const { told } = follow(t, "k8s:///book.shop:grpc", { k8s: { api_server: kubernetes.url() } });
  await until("a watch", () => watches(kubernetes).length === 1);
  assert.equal(watches(kubernetes)[0]?.searchParams.get("resourceVersion"), "101");
  kubernetes.bookmark();
  kubernetes.endWatches();
  await until("another watch", () => watches(kubernetes).length === 2);
  assert.equal(watches(kubernetes)[1]?.searchParams.get("resourceVersion"), "102");
  assert.equal(watches(kubernetes)[1]?.searchParams.get("allowWatchBookmarks"), "true");
  kubernetes.put(sliceOf("book-1", "10.0.0.2"));
  await until("the next set", () => told.addresses() === "10.0.0.2:1");
  assert.equal(lists(kubernetes), 1);
  assert.deepEqual(told.errors, []);
});

test("a version that is too old, told in the watch, means the list again, and is no failure", async (t) => {
  const kubernetes = await kubernetesForTest(t);
  kubernetes.put(sliceOf("book-1", "10.0.0.1"));
  const { told } = follow(t, "k8s:///book.shop:grpc", { k8s: { api_server: kubernetes.url() } });
  await until("a watch", () => watches(kubernetes).length === 1);
  kubernetes.expireWatches();
  await until("another list", () => lists(kubernetes) === 2);
  kubernetes.put(sliceOf("book-1", "10.0.0.2"));
  await until("the next set", () => told.addresses() === "10.0.0.2:1");
  assert.deepEqual(told.errors, []);
});

test("a version that is too old to begin a watch with means the list again", async (t) => {
  const kubernetes = await kubernetesForTest(t);
  kubernetes.put(sliceOf("book-1", "10.0.0.1"));
  const { told } = follow(t, "k8s:///book.shop:grpc", { k8s: { api_server: kubernetes.url() } });
  await until("a watch", () => watches(kubernetes).length === 1);
  kubernetes.put(sliceOf("book-1", "10.0.0.2"));
  kubernetes.compact();
  kubernetes.endWatches();
  await until("the next set", () => told.addresses() === "10.0.0.2:1");
  await until("another list", () => lists(kubernetes) === 2);
  assert.deepEqual(told.errors, []);
});

test("the token is read anew for each request", async (t) => {
  const kubernetes = await kubernetesForTest(t);
  const folder = await mkdtemp(join(tmpdir(), "k8s-"));
  t.after(() => rm(folder, { recursive: true }));
  const tokenFile = join(folder, "token");
  await writeFile(tokenFile, "first\n");
  kubernetes.put(sliceOf("book-1", "10.0.0.1"));
  const k8s = { api_server: kubernetes.url(), token_file: tokenFile };
  follow(t, "k8s:///book.shop:grpc", { k8s });
  await until("a watch", () => watches(kubernetes).length === 1);
  await writeFile(tokenFile, "second\n");
  kubernetes.bookmark();
  kubernetes.endWatches();
  await until("another watch", () => watches(kubernetes).length === 2);
  assert.deepEqual(kubernetes.authorizations, ["Bearer first", "Bearer first", "Bearer second"]);
});

test("a token file that is configured and missing is an error that names it", async (t) => {
  const kubernetes = await kubernetesForTest(t);
  const k8s = { api_server: kubernetes.url(), token_file: "/nowhere/token" };
  const { told } = follow(t, "k8s:///book.shop:grpc", { k8s });
  await until("an error", () => told.errors.length > 0);
  assert.match(told.errors[0]?.message ?? "", /ENOENT.*\/nowhere\/token/);
  assert.equal(kubernetes.asked.length, 0);
});

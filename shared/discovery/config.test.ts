import assert from "node:assert/strict";
import { test } from "node:test";
import { discoverySection } from "./index.ts";

function faultsOf(section: object): string[] {
  const { error } = discoverySection.safeParse(section);
  return (error?.issues ?? []).map(({ path, message }) => `${path.join(".")}: ${message}`);
}

test("everything has a default", () => {
  assert.deepEqual(discoverySection.parse(undefined), {
    etcd: { endpoints: ["http://127.0.0.1:2379"] },
    consul: { address: "http://127.0.0.1:8500" },
    k8s: { apiServer: "https://kubernetes.default.svc" },
    dns: { refreshIntervalMs: 30_000 },
    emptyGraceMs: 30_000,
    minRefreshMs: 5_000,
  });
});

test("a registry's address is http or https", () => {
  const expected = 'expected "http://host:port" or "https://…"';
  assert.deepEqual(faultsOf({ etcd: { endpoints: ["http://a:1", "a:1"] } }), [`etcd.endpoints.1: ${expected}`]);
  assert.deepEqual(faultsOf({ consul: { address: "tcp://a:1" } }), [`consul.address: ${expected}`]);
  assert.deepEqual(faultsOf({ k8s: { api_server: "https://" } }), [`k8s.api_server: ${expected}`]);
  assert.equal(faultsOf({ etcd: { endpoints: [] } }).length, 1);
});

test("what belongs together is there together", () => {
  assert.deepEqual(faultsOf({ etcd: { username: "a", cert_file: "package.json" } }), [
    "etcd.key_file: needed with cert_file",
    "etcd.password: needed with username",
  ]);
  assert.deepEqual(faultsOf({ etcd: { password: "a" } }), ["etcd.username: needed with password"]);
  assert.deepEqual(faultsOf({ consul: { key_file: "package.json" } }), ["consul.cert_file: needed with key_file"]);
});

test("the files of certificates are there", () => {
  const files = { ca_file: "package.json", cert_file: "no-such.pem", key_file: "no-such.pem" };
  const fault = "there is no such file";
  for (const registry of ["etcd", "consul"]) {
    assert.deepEqual(faultsOf({ [registry]: files }), [
      `${registry}.cert_file: ${fault}`,
      `${registry}.key_file: ${fault}`,
    ]);
    assert.deepEqual(faultsOf({ [registry]: { ca_file: "" } }), [`${registry}.ca_file: ${fault}`]);
  }
  assert.deepEqual(faultsOf({ k8s: { ca_file: "no-such.pem" } }), [`k8s.ca_file: ${fault}`]);
});

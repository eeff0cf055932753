import assert from "node:assert/strict";
import { test } from "node:test";
import { registrationSection, type Target, targetSchema } from "../index.ts";

function parse(value: unknown): Target {
  return targetSchema.parse(value);
}

/** What is wrong with it: the path, when there is one, and the words. */
function faultsOf(value: unknown): string[] {
  const { error } = targetSchema.safeParse(value);
  return (error?.issues ?? []).map(({ path, message }) =>
    path.length === 0 ? message : `${path.join(".")}: ${message}`,
  );
}

const HOST_PORT = 'expected "host:port", such as localhost:9002, 10.0.0.7:9002 or [::1]:9002';

test("a host and a port are one static address, with http:// or https:// or neither", () => {
  const common = { scheme: "static", authority: undefined };
  for (const text of ["localhost:9002", "http://localhost:9002", "HTTP://localhost:9002/"]) {
    assert.deepEqual(parse(text), { text, ...common, tls: false, addresses: ["localhost:9002"] });
  }
  const secure = "https://book.example:443";
  assert.deepEqual(parse(secure), { text: secure, ...common, tls: true, addresses: ["book.example:443"] });
  assert.deepEqual(parse("[::1]:9002"), { text: "[::1]:9002", ...common, tls: false, addresses: ["[::1]:9002"] });
  // A host may have a scheme's name.
  for (const text of ["dns:9002", "etcd:2379"])
    assert.deepEqual(parse(text), { text, ...common, tls: false, addresses: [text] });
});

test("a list is static, and alike in TLS", () => {
  assert.deepEqual(parse(["a:1", "http://b:2"]), {
    text: "a:1,http://b:2",
    scheme: "static",
    authority: undefined,
    tls: false,
    addresses: ["a:1", "b:2"],
  });
  assert.equal(parse(["https://a:1", "https://b:2"]).tls, true);
  assert.deepEqual(faultsOf(["a:1", "https://b:2"]), ["either all addresses are https:// or none is"]);
});

test("each entry of a list has its own fault", () => {
  assert.deepEqual(faultsOf(["a:1", "a", "a:1", "dns:///b:2", "a:0"]), [
    `1: ${HOST_PORT}`,
    "2: is in the list already",
    "3: dns: stands alone, in no list",
    "4: the port must be between 1 and 65535",
  ]);
  assert.deepEqual(faultsOf([]), ["at least one address is needed"]);
  assert.equal(faultsOf([7]).length, 1);
  assert.equal(faultsOf(7).length, 1);
  assert.equal(faultsOf(undefined).length, 1);
});

test("what is no host and port says what is expected", () => {
  for (const text of [
    "",
    "a",
    "a:",
    ":1",
    "a b:1",
    "::1:9002",
    "999.1.1.1:1",
    "a:1/",
    "a:1/x",
    "http://a:1/x",
    "a:123456",
  ]) {
    assert.deepEqual(faultsOf(text), [HOST_PORT], text);
  }
});

test("an unknown scheme says which are known", () => {
  assert.deepEqual(faultsOf("foo://book:1"), [
    'unknown scheme "foo"; known are dns, srv, etcd, consul, k8s, http, https',
  ]);
  assert.deepEqual(faultsOf("constructor://book:1").length, 1);
});

test("dns has gRPC's name syntax, with a port", () => {
  const common = { scheme: "dns", tls: false, authority: "book:9002", host: "book", port: 9002 };
  for (const text of ["dns:///book:9002", "dns:book:9002"]) {
    assert.deepEqual(parse(text), { text, ...common, server: undefined });
  }
  const servers = { "10.0.0.53": "10.0.0.53:53", "ns:5353": "ns:5353", "[::1]": "[::1]:53", "[::1]:54": "[::1]:54" };
  for (const [written, server] of Object.entries(servers)) {
    const text = `dns://${written}/book:9002`;
    assert.deepEqual(parse(text), { text, ...common, server });
  }
  assert.deepEqual(faultsOf("dns:///book"), ["dns needs a port: dns:///book:9002"]);
  assert.deepEqual(faultsOf("dns:///"), [`after dns:///, ${HOST_PORT}`]);
  assert.deepEqual(faultsOf("dns://a:0/book:1"), [`the name server: ${HOST_PORT}`]);
});

test("srv takes the name of records; its authority is the domain", () => {
  const text = "srv:///_grpc._tcp.book.shop";
  const name = "_grpc._tcp.book.shop";
  assert.deepEqual(parse(text), { text, scheme: "srv", tls: false, authority: "book.shop", server: undefined, name });
  assert.equal((parse("srv://10.0.0.53/book") as { server?: string }).server, "10.0.0.53:53");
  assert.deepEqual(faultsOf("srv:///"), ["expected the name of SRV records, such as srv:///_grpc._tcp.book"]);
  assert.equal(faultsOf("srv:///a..b").length, 1);
});

test("etcd and consul take a service's name, and no server", () => {
  const etcd = { text: "etcd:///shop/book", scheme: "etcd", tls: false, authority: "book", service: "shop/book" };
  assert.deepEqual(parse(etcd.text), etcd);
  const consul = { scheme: "consul", tls: false, authority: "book", service: "book" };
  assert.deepEqual(parse("consul:///book"), { text: "consul:///book", ...consul, tag: undefined });
  assert.deepEqual(parse("consul:///book?tag=a%20b"), { text: "consul:///book?tag=a%20b", ...consul, tag: "a b" });
  assert.deepEqual(faultsOf("etcd://book"), [
    "its servers are configured by discovery.etcd.endpoints: write etcd:///…, with three slashes",
  ]);
  assert.deepEqual(faultsOf("etcd:///a//b"), ["expected a service's name, such as etcd:///book-service"]);
  assert.deepEqual(faultsOf("consul:///book?dc=x"), ['unknown parameter "dc"; known is tag']);
  assert.deepEqual(faultsOf("consul:///book?tag=a&tag=b"), ["expected one tag: consul:///book-service?tag=blue"]);
});

test("k8s takes a service, a namespace when there is one, and a port's name or number", () => {
  const common = { scheme: "k8s", tls: false, service: "book" };
  const named = "k8s:///book.shop:grpc";
  assert.deepEqual(parse(named), { text: named, ...common, authority: "book.shop", namespace: "shop", port: "grpc" });
  const numbered = "k8s:///book:9002";
  assert.deepEqual(parse(numbered), {
    text: numbered,
    ...common,
    authority: "book:9002",
    namespace: undefined,
    port: 9002,
  });
  assert.deepEqual(faultsOf("k8s:///book"), [
    "expected service.namespace:port, such as k8s:///book.shop:grpc or k8s:///book:9002",
  ]);
  assert.deepEqual(faultsOf("k8s:///book:70000"), ["the port must be between 1 and 65535"]);
});

test("a name that cannot be the host of a URL is refused, since calls have it as their authority", () => {
  const why = "no URL can have it (one whose last part is a number is read as an IPv4 address)";
  for (const [text, host] of [
    ["etcd:///book-service.1", "book-service.1"],
    ["etcd:///shop/1", "1"],
    ["consul:///book.0x7f?tag=blue", "book.0x7f"],
    ["k8s:///book.1:grpc", "book.1"],
    ["k8s:///1:9002", "1"],
    ["srv:///_grpc._tcp.book.1", "book.1"],
    ["dns:///127.1:9002", "127.1"],
  ] as const) {
    assert.deepEqual(faultsOf(text), [`calls need a host's name, and "${host}" cannot be one: ${why}`], text);
  }
  for (const text of [
    "etcd:///1/book",
    "etcd:///Book_1.v1",
    "dns:///[0:0::1]:1",
    "dns:///10.0.0.7:1",
    "k8s:///1.shop:9002",
  ]) {
    assert.deepEqual(faultsOf(text), [], text);
  }
});

test("for all kinds of odd names: the authority of every target that is accepted is the host of its URL", () => {
  const parts = ["1", "0x1f", "08", "a", "B_2", "xn--a", "xn--bcher-kva", ".", "-", "_", "1-", "255", "v1", "..", "0x"];
  const forms = ["etcd:///", "consul:///", "k8s:///", "srv:///", "dns:///", "dns:"];
  let accepted = 0;
  // Of up to three parts, with and without dots between.
  for (const form of forms) {
    for (const ending of ["", ":grpc", ":9002", "?tag=x"]) {
      for (const one of parts) {
        for (const two of ["", ...parts, ...parts.map((part) => `.${part}`)]) {
          for (const three of ["", ".1", "/a", "1", ".shop"]) {
            const text = `${form}${one}${two}${three}${ending}`;
            const { data } = targetSchema.safeParse(text);
            if (data?.authority === undefined) continue;
            accepted++;
            const url = URL.parse(`http://${data.authority}`);
            const [host = ""] = data.authority.toLowerCase().split(":");
            assert.equal(url?.hostname, host, text);
          }
        }
      }
    }
  }
  assert.ok(accepted > 1_000, `only ${accepted}`);
});

test("a registration goes to etcd or consul, for whole seconds", () => {
  const faults = (section: object) =>
    registrationSection.safeParse(section).error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  const good = { address: "etcd:///book", advertise: "10.0.0.7:9002" };
  const { address, ...rest } = registrationSection.parse(good);
  assert.equal(address.service, "book");
  assert.deepEqual(rest, { advertise: "10.0.0.7:9002", ttlMs: 10_000, weight: 1, tags: [] });
  assert.deepEqual(faults({ ...good, address: "dns:///book:1" }), ["address: expected etcd:///name or consul:///name"]);
  assert.deepEqual(faults({ ...good, address: "consul:///book?tag=a" }), [
    "address: expected etcd:///name or consul:///name, tags under tags",
  ]);
  assert.deepEqual(faults({ ...good, advertise: "10.0.0.7" }), [`advertise: ${HOST_PORT}`]);
  assert.deepEqual(faults({ ...good, ttl: "3500ms" }), ["ttl: must be whole seconds"]);
  assert.deepEqual(faults({ ...good, tags: ["a"] }), ["tags: etcd has no tags"]);
});

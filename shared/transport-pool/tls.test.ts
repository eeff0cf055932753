import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import * as http2 from "node:http2";
import * as https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { Code } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { failureOf, startPool, until, within } from "./test-support.ts";

const FAST_BACKOFF = { initial: "5ms", max: "20ms" };

/** Made once: keys take their time. */
let made = "";
const file = (name: string) => join(made, name);
const pem = (name: string) => readFileSync(file(name));
before(() => {
  made = mkdtempSync(join(tmpdir(), "meridian-pool-tls-"));
  for (const authority of ["ca-1", "ca-2"]) {
    certify(authority, { names: "DNS:authority" });
    certify(`server-of-${authority}`, { names: "DNS:books.test,IP:127.0.0.1", authority });
    certify(`client-of-${authority}`, { names: "DNS:user-service", authority });
  }
  certify("other-client", { names: "DNS:user-service", authority: "ca-1" });
  certify("elsewhere", { names: "DNS:elsewhere.test", authority: "ca-1" });
});
after(() => rmSync(made, { recursive: true }));

/** A certificate and its key, signed by the authority or else by itself. */
function certify(name: string, { names, authority }: { names: string; authority?: string }): void {
  const run = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const request = [...curve, "-keyout", file(`${name}.key`), "-subj", `/CN=${name}`];
  if (authority === undefined) {
    run("req", "-x509", "-days", "1", ...request, "-out", file(`${name}.crt`));
    return;
  }
  writeFileSync(file(`${name}.ext`), `subjectAltName=${names}`);
  run("req", "-new", ...request, "-out", file(`${name}.csr`));
  const signer = ["-CA", file(`${authority}.crt`), "-CAkey", file(`${authority}.key`), "-CAcreateserial"];
  const extensions = ["-extfile", file(`${name}.ext`)];
  run("x509", "-req", "-days", "1", "-in", file(`${name}.csr`), ...signer, ...extensions, "-out", file(`${name}.crt`));
}

interface TlsPeerOptions {
  /** Whose certificate it shows. */
  readonly certificate?: string;
  /** The authority whose clients it serves; without, all. */
  readonly clients?: string;
  readonly http?: "1.1" | "2";
}

/** A Connect server over TLS. */
async function startTlsPeer(t: TestContext, { certificate = "server-of-ca-1", clients, http = "2" }: TlsPeerOptions) {
  const options = {
    cert: pem(`${certificate}.crt`),
    key: pem(`${certificate}.key`),
    ...(clients === undefined ? {} : { ca: pem(`${clients}.crt`), requestCert: true, rejectUnauthorized: true }),
  };
  const handle = connectNodeAdapter({
    routes: (router) => router.service(BookService, { getBook: () => ({ book: { title: certificate } }) }),
  });
  const server = http === "2" ? http2.createSecureServer(options, handle) : https.createServer(options, handle);
  const sockets = new Set<Socket>();
  /** Of each connection, in their order. */
  const clientNames: (string | undefined)[] = [];
  const serverNames: unknown[] = [];
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.on("secureConnection", (socket: TLSSocket) => {
    socket.on("error", () => {});
    const { subject } = socket.getPeerCertificate();
    clientNames.push(Array.isArray(subject?.CN) ? subject.CN[0] : subject?.CN);
    serverNames.push((socket as TLSSocket & { servername?: unknown }).servername);
  });
  server.on("tlsClientError", () => {});
  server.on("sessionError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    clientNames,
    serverNames,
    reset: () => sockets.forEach((socket) => void socket.destroy()),
  };
}

/** Files for the test to change. */
function filesOf(t: TestContext, { authority, client }: { authority: string; client: string }) {
  const folder = mkdtempSync(join(tmpdir(), "meridian-pool-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const tls = {
    ca_file: join(folder, "ca.crt"),
    cert_file: join(folder, "tls.crt"),
    key_file: join(folder, "tls.key"),
  };
  /** As deployments do it: beside the file, then in its place. */
  const replace = (path: string, content: Buffer | string) => {
    writeFileSync(`${path}.new`, content);
    renameSync(`${path}.new`, path);
  };
  copyFileSync(file(`${authority}.crt`), tls.ca_file);
  copyFileSync(file(`${client}.crt`), tls.cert_file);
  copyFileSync(file(`${client}.key`), tls.key_file);
  return { tls, replace };
}

const VERSIONS = [
  { http: "2", protocol: "grpc" },
  { http: "2", protocol: "connect" },
  { http: "2", protocol: "grpc-web" },
  { http: "1.1", protocol: "connect" },
] as const;

for (const { http, protocol } of VERSIONS) {
  const how = `${protocol} over HTTP/${http}`;

  test(`${how}: a peer is called by TLS, whether its address or its configuration says so`, async (t) => {
    const peer = await startTlsPeer(t, { http });
    for (const address of [peer.address, `https://${peer.address}`]) {
      const { books, pool } = startPool(t, { address, http, protocol, tls: { ca_file: file("ca-1.crt") } });
      assert.equal((await books.getBook({ id: "b1" })).book?.title, "server-of-ca-1");
      assert.equal(pool.states()[0]?.state, "ready");
    }
    assert.equal(peer.clientNames.length, 2);
  });

  test(`${how}: a certificate of another authority is refused, and the error says so`, async (t) => {
    const peer = await startTlsPeer(t, { http });
    // By Node's own authorities, and by a file.
    for (const tls of [undefined, { ca_file: file("ca-2.crt") }]) {
      const { books } = startPool(t, {
        address: `https://${peer.address}`,
        http,
        protocol,
        ...(tls === undefined ? {} : { tls }),
      });
      const error = await within(5_000, failureOf(books.getBook({ id: "b1" })));
      assert.equal(error.code, Code.Unavailable);
      assert.match(error.message, /certificate/);
      assert.ok(error.message.includes(peer.address), error.message);
    }
  });

  test(`${how}: a certificate for another name is refused, and the error says which names it has`, async (t) => {
    const peer = await startTlsPeer(t, { http, certificate: "elsewhere" });
    const tls = { ca_file: file("ca-1.crt") };
    const { books, lines } = startPool(t, { address: peer.address, http, protocol, tls });
    const error = await within(5_000, failureOf(books.getBook({ id: "b1" })));
    assert.equal(error.code, Code.Unavailable);
    assert.match(error.message, /127\.0\.0\.1/);
    assert.match(lines.find(({ level }) => level === "warn")?.error as string, /elsewhere\.test|127\.0\.0\.1/);
    const { books: named } = startPool(t, {
      address: peer.address,
      http,
      protocol,
      tls: { ...tls, server_name: "elsewhere.test" },
    });
    assert.equal((await named.getBook({ id: "b1" })).book?.title, "elsewhere");
    assert.equal(peer.serverNames.at(-1), "elsewhere.test");
  });

  test(`${how}: a peer that asks for a certificate gets this service's`, async (t) => {
    const peer = await startTlsPeer(t, { http, clients: "ca-2" });
    const tls = {
      ca_file: file("ca-1.crt"),
      cert_file: file("client-of-ca-2.crt"),
      key_file: file("client-of-ca-2.key"),
    };
    const { books } = startPool(t, { address: peer.address, http, protocol, tls });
    assert.equal((await books.getBook({ id: "b1" })).book?.title, "server-of-ca-1");
    assert.deepEqual(peer.clientNames, ["client-of-ca-2"]);
  });

  test(`${how}: without the certificate that its peer asks for, calls are UNAVAILABLE`, async (t) => {
    const peer = await startTlsPeer(t, { http, clients: "ca-2" });
    const wrong = { cert_file: file("client-of-ca-1.crt"), key_file: file("client-of-ca-1.key") };
    for (const own of [{}, wrong]) {
      const tls = { ca_file: file("ca-1.crt"), ...own };
      const { books } = startPool(t, { address: peer.address, http, protocol, tls });
      const error = await within(5_000, failureOf(books.getBook({ id: "b1" })));
      assert.equal(error.code, Code.Unavailable, error.message);
    }
    assert.deepEqual(peer.clientNames, []);
  });

  test(`${how}: changed files are used from the next connection on`, async (t) => {
    const peer = await startTlsPeer(t, { http, clients: "ca-1" });
    const { tls, replace } = filesOf(t, { authority: "ca-1", client: "client-of-ca-1" });
    const { books, pool } = startPool(t, { address: peer.address, http, protocol, tls, connect_backoff: FAST_BACKOFF });
    await books.getBook({ id: "b1" });
    replace(tls.cert_file, pem("other-client.crt"));
    replace(tls.key_file, pem("other-client.key"));
    await books.getBook({ id: "b1" });
    assert.deepEqual(peer.clientNames, ["client-of-ca-1"]);
    peer.reset();
    await until(() => pool.states()[0]?.endpoints[0]?.connections === 0);
    await books.getBook({ id: "b1" });
    assert.deepEqual(peer.clientNames, ["client-of-ca-1", "other-client"]);
    // Now the peer's authority is none of ours.
    replace(tls.ca_file, pem("ca-2.crt"));
    peer.reset();
    await until(() => pool.states()[0]?.endpoints[0]?.connections === 0);
    assert.equal((await within(5_000, failureOf(books.getBook({ id: "b1" })))).code, Code.Unavailable);
  });

  test(`${how}: files that cannot be used leave the old ones in force, and the log says so once`, async (t) => {
    const peer = await startTlsPeer(t, { http, clients: "ca-1" });
    const { tls, replace } = filesOf(t, { authority: "ca-1", client: "client-of-ca-1" });
    const { books, pool, lines } = startPool(t, { address: peer.address, http, protocol, tls });
    const errors = () => lines.filter(({ level }) => level === "error");
    const callAnew = async () => {
      peer.reset();
      await until(() => pool.states()[0]?.endpoints[0]?.connections === 0);
      await books.getBook({ id: "b1" });
    };
    await books.getBook({ id: "b1" });

    const half = pem("other-client.crt");
    replace(tls.cert_file, half.subarray(0, half.length / 2));
    await callAnew();
    await callAnew();
    assert.equal(errors().length, 1);
    assert.equal(errors()[0]?.peer_service, "book-service");

    // Whole, but not of this key.
    replace(tls.cert_file, half);
    await callAnew();
    assert.equal(errors().length, 2);

    rmSync(tls.key_file);
    await callAnew();
    await callAnew();
    assert.equal(errors().length, 3);
    assert.deepEqual(new Set(peer.clientNames), new Set(["client-of-ca-1"]));

    replace(tls.key_file, pem("other-client.key"));
    await callAnew();
    assert.equal(errors().length, 3);
    assert.equal(peer.clientNames.at(-1), "other-client");
  });
}

test("a server_name may be an address: the certificate must have it, and it is not asked for", async (t) => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on("warning", onWarning);
  t.after(() => process.off("warning", onWarning));
  const tls = { ca_file: file("ca-1.crt"), server_name: "127.0.0.1" };
  const peer = await startTlsPeer(t, {});
  const { books } = startPool(t, { address: peer.address.replace("127.0.0.1", "localhost"), tls });
  assert.equal((await books.getBook({ id: "b1" })).book?.title, "server-of-ca-1");
  assert.deepEqual(peer.serverNames, [false]);
  const other = await startTlsPeer(t, { certificate: "elsewhere" });
  const refused = startPool(t, { address: other.address, tls });
  assert.match((await failureOf(refused.books.getBook({ id: "b1" }))).message, /127\.0\.0\.1/);
  assert.deepEqual(warnings, []);
});

test("a peer that speaks TLS but no HTTP/2 is UNAVAILABLE, and the error says that", async (t) => {
  const peer = await startTlsPeer(t, { http: "1.1" });
  const { books } = startPool(t, { address: peer.address, tls: { ca_file: file("ca-1.crt") } });
  const error = await within(5_000, failureOf(books.getBook({ id: "b1" })));
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /HTTP\/2|application protocol/i);
});

test("files that cannot be used stop the start, by their names", (t) => {
  const { tls, replace } = filesOf(t, { authority: "ca-1", client: "client-of-ca-1" });
  replace(tls.cert_file, "half");
  assert.throws(
    () => startPool(t, { address: "127.0.0.1:1", tls }),
    (error: Error) => error.message.includes(tls.cert_file),
  );
});

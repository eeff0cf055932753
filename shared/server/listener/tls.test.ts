import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import tls, { type TLSSocket } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { connectHttp2, EchoService, startServer, type TestServer, until, within } from "#shared/testing";

/** Made once: keys take their time. */
const made = { folder: "", authorities: ["ca-1", "ca-2"], servers: ["server-1", "server-2"] };
before(() => {
  made.folder = mkdtempSync(join(tmpdir(), "meridian-tls-"));
  for (const name of [...made.authorities, ...made.servers]) certify(name);
  for (const authority of made.authorities) certify(`client-of-${authority}`, authority);
});
after(() => rmSync(made.folder, { recursive: true }));

function madeFile(name: string): string {
  return join(made.folder, name);
}

function pem(name: string): Buffer {
  return readFileSync(madeFile(name));
}

/** A certificate and its key, signed by the authority or else by itself. */
function certify(name: string, authority?: string): void {
  const key = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
    madeFile(`${name}.key`),
  ];
  const subject = ["-subj", `/CN=${name}`, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const run = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  if (authority === undefined) {
    run("req", "-x509", "-days", "1", ...key, ...subject, "-out", madeFile(`${name}.crt`));
    return;
  }
  run("req", "-new", ...key, ...subject, "-out", madeFile(`${name}.csr`));
  const signer = ["-CA", madeFile(`${authority}.crt`), "-CAkey", madeFile(`${authority}.key`), "-CAcreateserial"];
  run("x509", "-req", "-days", "1", "-in", madeFile(`${name}.csr`), ...signer, "-out", madeFile(`${name}.crt`));
}

/** A server with copies of the files, for the test to change. */
async function startTlsServer(t: TestContext, { authority }: { authority?: string } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "meridian-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const files = { cert: join(folder, "tls.crt"), key: join(folder, "tls.key"), authority: join(folder, "ca.crt") };
  /** As deployments do it: beside the file, then in its place. */
  function replace(file: string, content: Buffer | string): void {
    writeFileSync(`${file}.new`, content);
    renameSync(`${file}.new`, file);
  }
  copyFileSync(madeFile("server-1.crt"), files.cert);
  copyFileSync(madeFile("server-1.key"), files.key);
  if (authority !== undefined) copyFileSync(madeFile(`${authority}.crt`), files.authority);
  const server = await startServer(t, {
    config: {
      tls: {
        cert_file: files.cert,
        key_file: files.key,
        reload_interval: "10ms",
        ...(authority === undefined ? {} : { client_ca_file: files.authority }),
      },
    },
  });
  return { server, files, replace, folder };
}

const client = (authority: string) => ({
  cert: pem(`client-of-${authority}.crt`),
  key: pem(`client-of-${authority}.key`),
});

/** One request on a connection of its own. The name is that in the server's certificate, if it shows one. */
async function ask(server: TestServer, options: tls.ConnectionOptions = {}) {
  const request = https.get(`${server.url}/livez`, { agent: false, rejectUnauthorized: false, ...options });
  const [response] = await within(once(request, "response"), "a response");
  response.resume();
  const socket = response.socket as TLSSocket;
  return {
    status: response.statusCode as number,
    isResumed: socket.isSessionReused(),
    name: socket.getPeerCertificate().subject?.CN,
  };
}

const nameOf = async (server: TestServer) => (await ask(server)).name;

test("with client_ca_file, clients are served that present a certificate of that authority", async (t) => {
  const { server } = await startTlsServer(t, { authority: "ca-1" });
  assert.equal((await ask(server, client("ca-1"))).status, 200);
  const nodeOptions = { ca: pem("server-1.crt"), ...client("ca-1") };
  const grpc = createClient(EchoService, createGrpcTransport({ baseUrl: server.url, nodeOptions }));
  assert.equal((await grpc.echo({ value: "ada" })).value, "ada");
});

test("with client_ca_file, clients without a certificate or with another's are refused", async (t) => {
  const { server } = await startTlsServer(t, { authority: "ca-1" });
  await assert.rejects(ask(server));
  await assert.rejects(ask(server, client("ca-2")));
  await assert.rejects(ask(server, { cert: pem("server-2.crt"), key: pem("server-2.key") }));
  assert.equal(server.log.matching({ msg: "request" }).length, 0);
  await until("three failed handshakes", () => server.log.matching({ msg: "TLS handshake failed" }).length === 3);
  assert.equal((await ask(server, client("ca-1"))).status, 200);
});

test("without client_ca_file, nobody is asked for a certificate", async (t) => {
  const { server } = await startTlsServer(t);
  assert.equal((await ask(server)).status, 200);
});

test("a changed certificate is shown to new connections, and open ones go on", async (t) => {
  const { server, files, replace } = await startTlsServer(t);
  const open = await connectHttp2(t, server.url, { rejectUnauthorized: false });
  assert.equal(await nameOf(server), "server-1");
  replace(files.key, pem("server-2.key"));
  replace(files.cert, pem("server-2.crt"));
  await until("the new certificate", async () => (await nameOf(server)) === "server-2");
  assert.equal((await open.call("/livez", { ":method": "GET" })).status, 200);
  await server.log.line({ level: "info", msg: "certificates reloaded" });
});

test("a link that is turned to other files is a change, as Kubernetes does it", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "meridian-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const turn = (name: string) => {
    for (const kind of ["crt", "key"]) {
      symlinkSync(madeFile(`${name}.${kind}`), join(folder, `${kind}.new`));
      renameSync(join(folder, `${kind}.new`), join(folder, kind));
    }
  };
  turn("server-1");
  const files = { cert_file: join(folder, "crt"), key_file: join(folder, "key"), reload_interval: "10ms" };
  const server = await startServer(t, { config: { tls: files } });
  assert.equal(await nameOf(server), "server-1");
  turn("server-2");
  await until("the new certificate", async () => (await nameOf(server)) === "server-2");
});

for (const [what, spoil] of [
  ["is no certificate", (files) => writeFileSync(files.cert, "-----BEGIN nothing")],
  ["is not there", (files) => rmSync(files.cert)],
  ["is the key of another certificate", (files) => copyFileSync(madeFile("server-2.key"), files.key)],
  ["is an authority without a certificate", (files) => writeFileSync(files.authority, "")],
  [
    "is half an authority",
    (files) => writeFileSync(files.authority, Buffer.concat([pem("ca-1.crt"), pem("ca-2.crt").subarray(0, 200)])),
  ],
] as [string, (files: Readonly<Record<"cert" | "key" | "authority", string>>) => void][]) {
  test(`a new file that ${what} is logged once, the old ones stay, and good ones are taken later`, async (t) => {
    const { server, files, replace } = await startTlsServer(t, { authority: "ca-1" });
    spoil(files);
    await server.log.line({ level: "error" });
    assert.equal((await ask(server, client("ca-1"))).name, "server-1");
    await assert.rejects(ask(server, client("ca-2")));
    replace(files.authority, pem("ca-1.crt"));
    replace(files.key, pem("server-2.key"));
    replace(files.cert, pem("server-2.crt"));
    await until("the new certificate", async () => (await ask(server, client("ca-1"))).name === "server-2");
    assert.equal(server.log.matching({ level: "error" }).length, 1);
  });
}

test("a changed authority holds for new connections, also for those that resume a session", async (t) => {
  const { server, files, replace } = await startTlsServer(t, { authority: "ca-1" });
  const first = tls.connect({ port: server.port, host: "127.0.0.1", rejectUnauthorized: false, ...client("ca-1") });
  t.after(() => first.destroy());
  const [session] = (await within(once(first, "session"), "a session")) as [Buffer];
  assert.equal((await ask(server, { ...client("ca-1"), session })).isResumed, true);
  replace(files.authority, pem("ca-2.crt"));
  await until("the new authority", () =>
    ask(server, client("ca-2")).then(
      () => true,
      () => false,
    ),
  );
  await assert.rejects(ask(server, client("ca-1")));
  await assert.rejects(ask(server, { ...client("ca-1"), session }));
});

test("several authorities can stand in one file", async (t) => {
  const { server, files, replace } = await startTlsServer(t, { authority: "ca-1" });
  replace(files.authority, Buffer.concat([pem("ca-1.crt"), pem("ca-2.crt")]));
  await server.log.line({ msg: "certificates reloaded" });
  for (const authority of made.authorities) assert.equal((await ask(server, client(authority))).status, 200);
});

test("a bad certificate at the start fails the start, before anything listens", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "meridian-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const empty = join(folder, "empty");
  writeFileSync(empty, "");
  const files = { cert_file: madeFile("server-1.crt"), key_file: madeFile("server-1.key") };
  await assert.rejects(startServer(t, { config: { tls: { ...files, client_ca_file: empty } } }));
  await assert.rejects(startServer(t, { config: { tls: { ...files, key_file: madeFile("server-2.key") } } }));
});

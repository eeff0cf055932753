import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

/** An authority, and a server (127.0.0.1) and a client that it has signed: PEM files. */
export interface Certificates {
  /** The path of `ca.crt`, `server.crt`, `server.key`, `client.crt` or `client.key`. */
  file(name: string): string;
  pem(name: string): Buffer;
}

/** Made once for a test file, since keys take their time, and removed after it. */
export function makeCertificates(): Certificates {
  const folder = mkdtempSync(join(tmpdir(), "meridian-certificates-"));
  after(() => rmSync(folder, { recursive: true }));
  const file = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  const newKey = (name: string) => {
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    return [...curve, "-keyout", file(`${name}.key`), "-subj", `/CN=${name}`];
  };
  openssl("req", "-x509", "-days", "1", ...newKey("ca"), "-out", file("ca.crt"));
  writeFileSync(file("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost");
  for (const name of ["server", "client"]) {
    openssl("req", "-new", ...newKey(name), "-out", file(`${name}.csr`));
    const signer = ["-CA", file("ca.crt"), "-CAkey", file("ca.key"), "-CAcreateserial", "-extfile", file("names")];
    openssl("x509", "-req", "-days", "1", "-in", file(`${name}.csr`), ...signer, "-out", file(`${name}.crt`));
  }
  return { file, pem: (name) => readFileSync(file(name)) };
}

import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Writes the certificates and keys of the runner into files, whose paths Meridian's configuration takes. */
export class PemFiles {
  readonly #folder = mkdtempSync(join(tmpdir(), "meridian-conformance-"));

  /** @returns the path of a file with this content; equal contents share one file */
  write(pem: Uint8Array): string {
    const file = join(this.#folder, `${createHash("sha256").update(pem).digest("hex")}.pem`);
    if (!existsSync(file)) writeFileSync(file, pem, { mode: 0o600 });
    return file;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

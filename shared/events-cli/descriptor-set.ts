import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import process from "node:process";
import { promisify } from "node:util";
import { DomainError } from "#shared/errors";

const MOST_BYTES = 64 * 1024 * 1024;
const TIMEOUT_MS = 60_000;

/**
 * A google.protobuf.FileDescriptorSet, with comments, of the protos of a folder with a buf.yaml. Needs buf, which is there
 * with the development dependencies; nothing is fetched.
 *
 * @throws DomainError BUF_MISSING, BUF_FAILED
 */
export async function buildDescriptorSet(folder: string): Promise<Uint8Array> {
  const args = [bufIn(folder), "build", "--as-file-descriptor-set", "--output", "-"];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      cwd: folder,
      encoding: "buffer",
      maxBuffer: MOST_BYTES,
      timeout: TIMEOUT_MS,
    });
    return stdout;
  } catch (cause) {
    const { stderr } = cause as { readonly stderr?: Buffer };
    const said = stderr?.toString().trim() || String(cause);
    throw new DomainError("failed_precondition", "BUF_FAILED", `buf cannot build the protos: ${said}`, { cause });
  }
}

function bufIn(folder: string): string {
  try {
    return createRequire(`${folder}/`).resolve("@bufbuild/buf/bin/buf");
  } catch (cause) {
    const message = "the comments of the protos are read by @bufbuild/buf, a development dependency: npm ci";
    throw new DomainError("failed_precondition", "BUF_MISSING", message, { cause });
  }
}

import { readFile } from "node:fs/promises";
import { cpus } from "node:os";

const PACKAGES = [
  "@bufbuild/protobuf",
  "@connectrpc/connect",
  "@connectrpc/connect-fastify",
  "@connectrpc/connect-node",
  "@grpc/grpc-js",
  "fastify",
] as const;

/** What numbers hang on, beside the cores and Node: what was measured, on what and when. */
export async function circumstances(): Promise<Readonly<Record<string, string>>> {
  // Its versions are exact.
  const text = await readFile(new URL("../../../package.json", import.meta.url), "utf8");
  const { dependencies, devDependencies } = JSON.parse(text) as Record<string, Record<string, string>>;
  const versions = { ...dependencies, ...devDependencies };
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    date: new Date().toISOString().slice(0, 10),
    ...Object.fromEntries(PACKAGES.map((name) => [name, versions[name] ?? "unknown"])),
  };
}

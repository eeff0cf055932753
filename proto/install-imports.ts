// Lays down in node_modules/.proto the files that our protos import, so that buf needs no schema registry: run by
// `npm ci`, and quiet where the development dependencies are left out, since only buf reads them.
//
// grpc.health and grpc.reflection are shipped as files, one of them not under its canonical path.
// buf/validate/validate.proto is shipped by no npm package; its descriptor is, inside @bufbuild/protovalidate.

import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const root = join(import.meta.dirname, "..");
const target = join(root, "node_modules/.proto");
const require = createRequire(import.meta.url);

const shipped = {
  "grpc/health/v1/health.proto": "grpc-health-check/proto/health/v1/health.proto",
  "grpc/reflection/v1/reflection.proto": "@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto",
  "grpc/reflection/v1alpha/reflection.proto": "@grpc/reflection/build/proto/grpc/reflection/v1alpha/reflection.proto",
};

if (isInstalled("@bufbuild/buf/package.json")) {
  for (const [path, from] of Object.entries(shipped)) {
    mkdirSync(dirname(join(target, path)), { recursive: true });
    cpSync(join(root, "node_modules", from), join(target, path));
  }
  const { file_buf_validate_validate } = await import("@bufbuild/protovalidate/gen/buf/validate/validate_pb.js");
  const { printProto } = await import("./print-proto.ts");
  mkdirSync(join(target, "buf/validate"), { recursive: true });
  writeFileSync(join(target, "buf/validate/validate.proto"), printProto(file_buf_validate_validate));
}

function isInstalled(file: string): boolean {
  try {
    require.resolve(file);
    return true;
  } catch {
    return false;
  }
}

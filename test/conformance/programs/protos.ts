// The suite's messages. `install.ts` generates their code, since it is not committed.
export * from "../../../node_modules/.cache/conformance/gen/connectrpc/conformance/v1/client_compat_pb.js";
export * from "../../../node_modules/.cache/conformance/gen/connectrpc/conformance/v1/config_pb.js";
export * from "../../../node_modules/.cache/conformance/gen/connectrpc/conformance/v1/server_compat_pb.js";
export * from "../../../node_modules/.cache/conformance/gen/connectrpc/conformance/v1/service_pb.js";

import { createRegistry } from "@bufbuild/protobuf";
import { file_google_protobuf_descriptor } from "@bufbuild/protobuf/wkt";
import {
  file_connectrpc_conformance_v1_client_compat,
  file_connectrpc_conformance_v1_config,
  file_connectrpc_conformance_v1_service,
} from "./protos.ts";

/** Types that a google.protobuf.Any of the suite can hold. */
export const registry = createRegistry(
  file_connectrpc_conformance_v1_client_compat,
  file_connectrpc_conformance_v1_config,
  file_connectrpc_conformance_v1_service,
  file_google_protobuf_descriptor,
);

import { create } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError } from "@connectrpc/connect";
import { type Code as CodeProto, type Error as ErrorProto, ErrorSchema } from "./protos.ts";

const TYPE_URL_PREFIX = "type.googleapis.com/";

/** Connect's codes have the numbers of the suite's. */
export function toConnectError({ code, message = "", details }: ErrorProto): ConnectError {
  const error = new ConnectError(message, code as number as Code);
  for (const { typeUrl, value } of details) {
    error.details.push({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value });
  }
  return error;
}

/** A reason that is no ConnectError has the code `unknown`. */
export function fromError(reason: unknown): ErrorProto {
  const error = ConnectError.from(reason);
  return create(ErrorSchema, {
    code: error.code as number as CodeProto,
    message: error.rawMessage,
    details: error.details.map(toAny),
  });
}

function toAny(detail: ConnectError["details"][number]): Any {
  if (!("type" in detail)) throw new TypeError(`an error detail that was not received: ${detail.desc.typeName}`);
  return create(AnySchema, { typeUrl: TYPE_URL_PREFIX + detail.type, value: detail.value });
}

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { codeOfName, nameOfCode } from "./code-names.ts";
import { DomainError, type ErrorCode } from "./domain-error.ts";
import { peerFailure, peerOf } from "./peer-failure.ts";

/**
 * What the wire carries for something that a handler threw:
 * a DomainError with its code, an ErrorInfo{reason, domain, metadata} and a BadRequest for its fields;
 * a ConnectError as it is, unless it is how a call to a peer failed: then what `peerFailure` makes of it;
 * whatever else as `internal`, which tells the caller nothing and keeps the cause for the log.
 *
 * @param domain what gives the reasons their meaning: the service's name.
 */
export function toConnectError(error: unknown, domain: string): ConnectError {
  const peer = peerOf(error);
  const own = peer === undefined ? error : peerFailure(peer, error);
  if (own instanceof ConnectError) return own;
  if (!(own instanceof DomainError)) {
    return new ConnectError("internal error", Code.Internal, undefined, undefined, own);
  }
  const { code, reason, metadata, fields } = own;
  const connectError = new ConnectError(own.message, toCode(code), undefined, undefined, own);
  connectError.details.push({ desc: ErrorInfoSchema, value: { reason, domain, metadata } });
  if (fields.length > 0) {
    const fieldViolations = fields.map((field) => ({ ...field, reason: field.reason ?? "" }));
    connectError.details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  return connectError;
}

/**
 * The DomainError that a peer's ConnectError carries, for a caller that decides by reason; undefined when it carries
 * none. Its cause is the ConnectError.
 */
export function fromConnectError(error: unknown): DomainError | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  const [info] = error.findDetails(ErrorInfoSchema);
  if (info === undefined) return undefined;
  const [badRequest = create(BadRequestSchema)] = error.findDetails(BadRequestSchema);
  return new DomainError(nameOfCode(error.code) as ErrorCode, info.reason, error.rawMessage, {
    metadata: info.metadata,
    fields: badRequest.fieldViolations.map(({ field, description, reason }) => ({ field, description, reason })),
    cause: error,
  });
}

function toCode(code: ErrorCode): Code {
  const value = codeOfName(code);
  if (value === undefined) throw new TypeError(`not a canonical code: ${code}`);
  return value;
}

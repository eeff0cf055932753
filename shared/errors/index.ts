export { codeOfName, nameOfCode } from "./code-names.ts";
export { fromConnectError, toConnectError } from "./connect-errors.ts";
export { describeError, textOf } from "./describe-error.ts";
export { DomainError, type DomainErrorOptions, type ErrorCode, type FieldViolation } from "./domain-error.ts";
export { isPeerUnavailable, markPeerError, peerFailure, peerOf } from "./peer-failure.ts";

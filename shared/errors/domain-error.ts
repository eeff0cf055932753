/** The canonical codes of gRPC and Connect that an error can carry, as Connect writes them on the wire. */
export type ErrorCode =
  | "canceled"
  | "unknown"
  | "invalid_argument"
  | "deadline_exceeded"
  | "not_found"
  | "already_exists"
  | "permission_denied"
  | "resource_exhausted"
  | "failed_precondition"
  | "aborted"
  | "out_of_range"
  | "unimplemented"
  | "internal"
  | "unavailable"
  | "data_loss"
  | "unauthenticated";

/** One fault of one field of the request: google.rpc.BadRequest.FieldViolation. */
export interface FieldViolation {
  /** The field's path as the proto spells it, such as `items[0].quantity`. */
  readonly field: string;
  /** For people. */
  readonly description: string;
  /** Constant for one kind of fault, such as `string.email`. */
  readonly reason?: string;
}

export interface DomainErrorOptions {
  /** The particulars, for programs: which id, how many. Keys in lower snake case. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Which fields were refused, with `invalid_argument`. */
  readonly fields?: readonly FieldViolation[];
  /** What lies behind it: logged, never sent. */
  readonly cause?: unknown;
}

/**
 * A failure that the domain means and its callers may rely on. Code and reason are contract (the reasons are an enum
 * in the service's proto), the message is for people and may change.
 */
export class DomainError extends Error {
  readonly code: ErrorCode;
  /** Constant for one cause, upper snake case: `EMAIL_TAKEN`. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fields: readonly FieldViolation[];

  constructor(code: ErrorCode, reason: string, message: string, options: DomainErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "DomainError";
    this.code = code;
    this.reason = reason;
    this.metadata = options.metadata ?? {};
    this.fields = options.fields ?? [];
  }
}

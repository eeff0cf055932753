import type { DescMessage, Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import type { Interceptor, StreamRequest } from "@connectrpc/connect";
import { DomainError } from "#shared/errors";
import { watchItems } from "#shared/rpc";
import { RuledMessages } from "./ruled-messages.ts";

const validator = createValidator();
const ruled = new RuledMessages();

/**
 * Holds every request message against the protovalidate rules in its proto: INVALID_ARGUMENT, VALIDATION_FAILED, with
 * a google.rpc.BadRequest that names each field.
 *
 * @throws CompilationError for rules that do not compile, which the error mapping makes `internal`
 */
export const validationInterceptor: Interceptor = (next) => (request) => {
  const { input } = request.method;
  if (!ruled.has(input)) return next(request);
  if (!request.stream) {
    validate(input, request.message);
    return next(request);
  }
  const message = watchItems(request.message, {
    onItem(item) {
      validate(input, item);
      return item;
    },
  });
  return next({ ...request, message } as StreamRequest);
};

function validate(schema: DescMessage, message: Message): void {
  const result = validator.validate(schema, message);
  if (result.kind === "valid") return;
  if (result.kind === "error") throw result.error;
  const fields = result.violations.map((violation) => ({
    field: pathToString(violation.field),
    description: violation.message,
    reason: violation.ruleId,
  }));
  const summary = fields.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`));
  throw new DomainError("invalid_argument", "VALIDATION_FAILED", summary.join("; "), { fields });
}

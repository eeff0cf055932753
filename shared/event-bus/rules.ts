import type { DescMessage, Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";

const validator = createValidator();

/**
 * Describes in one line how a message breaks the protovalidate rules of its proto; undefined when it keeps them.
 *
 * @throws CompilationError for rules that do not compile
 */
export function brokenRules(schema: DescMessage, message: Message): string | undefined {
  const result = validator.validate(schema, message);
  if (result.kind === "valid") return undefined;
  if (result.kind === "error") throw result.error;
  return result.violations.map(({ field, message: rule }) => `${pathToString(field)}: ${rule}`).join("; ");
}

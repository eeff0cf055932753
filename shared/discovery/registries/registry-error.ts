import type { z } from "zod";

/** Reports that a registry could not be reached or has responded with an error. */
export class RegistryError extends Error {
  override readonly name = "RegistryError";
  /** HTTP status of the response; undefined without a response. */
  readonly status: number | undefined;

  constructor(message: string, options: { status?: number; cause?: unknown } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : {});
    this.status = options.status;
  }
}

/** @throws RegistryError when the answer is not what the registry's documentation says */
export function readAnswer<T>(schema: z.ZodType<T>, answer: unknown, registry: string): T {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  const faults = result.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
  throw new RegistryError(`${registry} gave an answer that makes no sense: ${faults}`);
}

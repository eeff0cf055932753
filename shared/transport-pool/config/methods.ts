import { z } from "zod";
import { duration, section } from "#shared/config";
import { breakerSection } from "./breaker.ts";
import { hedgeSection } from "./hedge.ts";
import { methodRetrySection } from "./retry.ts";

export const RETRY_OR_HEDGE = "a call is either retried or hedged: leave out retry or hedge (gRFC A6)";

const methodSection = section(
  {
    /** Instead of the service's `timeout`. */
    timeout: duration(undefined, { min: "1ms" }).optional(),
    wait_for_ready: z.boolean().optional(),
    /** Retries the method whatever its `idempotency_level` says; `off`: never. */
    retry: z.union([methodRetrySection, z.literal("off")]).optional(),
    /** Only for methods without side effects; `off`: never. */
    hedge: z.union([hedgeSection, z.literal("off")]).optional(),
    breaker: breakerSection.optional(),
  },
  ({ retry, hedge }, fault) => {
    if (typeof retry === "object" && typeof hedge === "object") fault("hedge", RETRY_OR_HEDGE);
  },
);

const METHOD = /^\/?([A-Za-z_][\w.]*\/[A-Za-z_]\w*)$/;

/** By fully qualified name, such as `book.v1.BookService/GetBook`, with or without a slash before it. */
export const methodsSchema = z
  .record(z.string(), methodSection)
  .superRefine(checkNames, { when: () => true })
  .transform((methods) =>
    Object.fromEntries(Object.entries(methods).map(([key, method]) => [nameOf(key) ?? key, method])),
  );

function checkNames(methods: unknown, context: z.core.$RefinementCtx): void {
  if (typeof methods !== "object" || methods === null) return;
  const seen = new Set<string>();
  for (const key of Object.keys(methods)) {
    const fault = (message: string) => context.addIssue({ code: "custom", path: [key], message });
    const name = nameOf(key);
    if (name === undefined) fault("expected a method's full name, such as book.v1.BookService/GetBook");
    else if (seen.has(name)) fault(`there is an entry for ${name} already`);
    else seen.add(name);
  }
}

function nameOf(key: string): string | undefined {
  return METHOD.exec(key)?.[1];
}

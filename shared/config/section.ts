import { z } from "zod";
import { type DurationMs, isDuration } from "./duration.ts";
import { nearest } from "./nearest.ts";

type Shape = z.core.$ZodShape;
type Fields<S extends Shape> = z.core.$InferObjectOutput<S, Record<never, never>>;

/** Schema that `section(shape)` returns: reads YAML keys, gives camelCase keys. */
export type Section<S extends Shape> = z.ZodPipe<
  z.ZodObject<S, z.core.$strict>,
  z.ZodTransform<SectionOutput<S>, z.output<z.ZodObject<S, z.core.$strict>>>
>;

/** Type of a parsed section: `shutdown_timeout: duration()` is `shutdownTimeoutMs: number`. */
export type SectionOutput<S extends Shape> = {
  [K in keyof Fields<S> as OutputKey<K, Fields<S>[K]>]: OutputValue<Fields<S>[K]>;
};

type OutputKey<K, V> = K extends string ? (IsDuration<V> extends true ? `${Camel<K>}Ms` : Camel<K>) : never;
type IsDuration<V> = [NonNullable<V>] extends [never]
  ? false
  : NonNullable<V> extends DurationMs | readonly DurationMs[]
    ? true
    : false;
// A key that is left out is left out of the result too, never present as undefined (exactOptionalPropertyTypes).
type OutputValue<V> = IsDuration<V> extends true ? (NonNullable<V> extends DurationMs ? number : number[]) : Defined<V>;
type Defined<V> = unknown extends V ? V : Exclude<V, undefined>;
type Camel<K extends string> = K extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : K;

/** @param fault reports a fault of a key */
export type SectionCheck<S extends Shape> = (
  fields: Partial<Fields<S>>,
  fault: (key: keyof S & string, message: string) => void,
) => void;

const SNAKE_CASE = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/;

/**
 * Creates the schema of one part of a configuration: a zod object that reads snake_case keys and gives camelCase keys.
 * Durations become milliseconds, with names that end in `Ms`. Unknown keys are refused. Sections can be nested and used in
 * arrays and `.optional()`. `section({ … }).prefault({})` is optional in the YAML when all of its keys have defaults.
 *
 * @param check finds faults between keys. It gets the keys of the YAML and also runs when single keys have faults (these
 *   may be missing), so that one error lists all faults
 *
 * @example
 * const serverSection = section({ name: z.string().min(1), port: z.int(), shutdown_timeout: duration("10s") });
 * type ServerConfig = z.output<typeof serverSection>; // { name: string; port: number; shutdownTimeoutMs: number }
 */
export function section<const S extends Shape>(shape: S, check?: SectionCheck<S>): Section<S> {
  const outputKeys = new Map<string, string>();
  for (const [key, schema] of Object.entries(shape)) {
    if (!SNAKE_CASE.test(key)) throw new TypeError(`section: the key ${JSON.stringify(key)} is not snake_case`);
    outputKeys.set(key, isDuration(schema) ? `${camel(key)}Ms` : camel(key));
  }
  const known = [...outputKeys.keys()];
  const input = z.strictObject(shape, {
    // One line for each key, in the order of issue.keys: loadConfig makes a fault of each.
    error: (issue) =>
      issue.code === "unrecognized_keys" ? issue.keys.map((key) => unknownKey(key, known)).join("\n") : undefined,
  });
  const checked = check === undefined ? input : input.superRefine(checkFields(check), { when: () => true });
  return checked.transform((fields) => {
    const output: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(fields)) {
      if (value !== undefined) output[outputKeys.get(key) ?? key] = value;
    }
    return output as SectionOutput<S>;
  });
}

function checkFields<S extends Shape>(check: SectionCheck<S>) {
  return (fields: unknown, context: z.core.$RefinementCtx): void => {
    if (typeof fields !== "object" || fields === null) return;
    check(fields as Partial<Fields<S>>, (key, message) => {
      context.addIssue({ code: "custom", path: [key], message });
    });
  };
}

function unknownKey(key: string, known: readonly string[]): string {
  const close = nearest(key, known);
  const hint = close === undefined ? "" : ` (did you mean ${close}?)`;
  return `unknown key ${JSON.stringify(key)}${hint}; the keys here are ${known.join(", ")}`;
}

function camel(key: string): string {
  return key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

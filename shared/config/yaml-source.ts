import {
  type Document,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  Scalar,
  type ScalarTag,
  visit,
  type YAMLError,
} from "yaml";
import type { ConfigFault } from "./config-error.ts";
import { formatPath } from "./fault-path.ts";
import { type Environment, hasReference, substitute } from "./substitution.ts";

/** What could be read of a YAML text: a value for the schema, and the faults found on the way. */
export interface YamlSource {
  readonly value: unknown;
  readonly faults: readonly ConfigFault[];
  /** Where a reference to the environment failed: the schema's word on these paths adds nothing. */
  readonly unresolved: ReadonlySet<string>;
  /** The text is not YAML: `value` is what could be made of it, and what it lacks may well be there. */
  readonly broken: boolean;
}

/** Enough for shared settings, too little for a "billion laughs" to grow. */
const MAX_ALIAS_EXPANSION = 100;
const UNRESOLVED = Symbol("unresolved");

/**
 * Reads YAML (1.2, core schema, merge keys) and puts the environment into its values. References are resolved in the
 * parsed tree, so that no value can change the structure. A key without a value counts as left out.
 */
export function readYaml(text: string, env: Environment): YamlSource {
  const lines = new LineCounter();
  // prettyErrors would quote the source, secrets too; uniqueKeys would not say where.
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: false,
    merge: true,
    version: "1.2",
    schema: "core",
  });
  const faults = [
    ...syntaxFaults([...document.errors, ...document.warnings], text, lines),
    ...duplicateKeys(document, lines),
    ...resolveAliases(document),
    ...resolveReferences(document, env),
  ];

  const unresolved = new Set<string>();
  let value: unknown = {};
  try {
    value = withoutEmpty(document.toJS({ maxAliasCount: MAX_ALIAS_EXPANSION }) ?? {}, [], unresolved);
  } catch (error) {
    // What the yaml package throws for too many aliases.
    if (!(error instanceof ReferenceError)) throw error;
    faults.push({
      path: "",
      message: `the aliases expand to too much (more than ${MAX_ALIAS_EXPANSION} times their anchor)`,
    });
    return { value, faults, unresolved, broken: true };
  }
  return { value, faults, unresolved, broken: document.errors.length > 0 };
}

/** One fault a line: what follows the first is mostly its consequence. */
function syntaxFaults(errors: readonly YAMLError[], text: string, lines: LineCounter): ConfigFault[] {
  const source = text.split("\n");
  const faults = new Map<number, ConfigFault>();
  for (const error of errors) {
    const { line, col } = lines.linePos(error.pos[0]);
    if (faults.has(line)) continue;
    const hint = hasReference(source[line - 1] ?? "") ? "; inside [ ] and { } a ${…} goes in quotes" : "";
    faults.set(line, { path: "", message: `line ${line}, column ${col}: ${syntaxMessage(error)}${hint}` });
  }
  return [...faults.values()];
}

/** Some of the yaml package's messages end in the source at fault: `Unexpected scalar at node end: "hunter2"`. */
function syntaxMessage({ code, message }: YAMLError): string {
  if (code === "UNEXPECTED_TOKEN") return "unexpected text";
  if (code === "TAG_RESOLVE_FAILED") return "unknown tag; a text that begins with ! goes in quotes";
  if (code === "MULTIPLE_DOCS") return "a second document begins here, and a configuration is one";
  return message.replace(/: ?["'`].*/s, "");
}

function duplicateKeys(document: Document, lines: LineCounter): ConfigFault[] {
  const faults: ConfigFault[] = [];
  visit(document, {
    Map(key, map, ancestors) {
      const first = new Map<unknown, number>();
      for (const pair of map.items) {
        if (!isScalar(pair.key)) continue;
        const name = String(pair.key.value);
        const line = lines.linePos(pair.key.range?.[0] ?? 0).line;
        const before = first.get(name);
        if (before === undefined) first.set(name, line);
        else {
          const path = formatPath([...pathOf(key, ancestors), name]);
          faults.push({ path, message: `duplicate key on line ${line}, first on line ${before}` });
        }
      }
    },
  });
  return faults;
}

/** Takes out the aliases that lead nowhere or into themselves, so that the rest of the file can be checked. */
function resolveAliases(document: Document): ConfigFault[] {
  const faults: ConfigFault[] = [];
  visit(document, {
    Alias(key, alias, ancestors) {
      const target = alias.resolve(document);
      if (target !== undefined && !ancestors.includes(target)) return undefined;
      // Without the alias's name: an unquoted password may begin with a *.
      const message =
        target === undefined
          ? "an alias without an anchor before it; a text that begins with * goes in quotes"
          : "an alias inside its own anchor";
      faults.push({ path: formatPath(pathOf(key, ancestors)), message });
      return new Scalar(UNRESOLVED);
    },
  });
  return faults;
}

function resolveReferences(document: Document, env: Environment): ConfigFault[] {
  const faults: ConfigFault[] = [];
  visit(document, {
    Scalar(key, scalar, ancestors) {
      const source = scalar.source ?? scalar.value;
      if (key === "key" || typeof source !== "string" || !hasReference(source)) return;
      const { text, faults: messages } = substitute(source, env);
      for (const message of messages) faults.push({ path: formatPath(pathOf(key, ancestors)), message });
      scalar.value = messages.length > 0 ? UNRESOLVED : resolveScalar(document, scalar, text);
    },
  });
  return faults;
}

/** What a scalar of this text would have been, had the text stood in the file. */
function resolveScalar(document: Document, scalar: Scalar, text: string): unknown {
  if (scalar.type !== Scalar.PLAIN && scalar.tag === undefined) return text;
  const tags = document.schema.tags.filter((tag): tag is ScalarTag => tag.collection === undefined);
  const tag =
    scalar.tag === undefined
      ? tags.find((candidate) => candidate.default === true && candidate.test?.test(text) === true)
      : tags.find((candidate) => candidate.tag === scalar.tag);
  const value = tag === undefined ? text : tag.resolve(text, () => {}, document.options);
  return isScalar(value) ? value.value : value;
}

/** The path of a visited node; a node behind an anchor has the path where it is written. */
function pathOf(key: number | "key" | "value" | null, ancestors: readonly (Document | Node | Pair)[]): PropertyKey[] {
  const path: PropertyKey[] = [];
  for (const [i, ancestor] of ancestors.entries()) {
    const next = ancestors[i + 1];
    if (isPair(ancestor)) path.push(isScalar(ancestor.key) ? String(ancestor.key.value) : String(ancestor.key));
    else if (isSeq(ancestor)) path.push(next === undefined ? Number(key) : ancestor.items.indexOf(next));
  }
  return path;
}

/** A copy without the keys that have no value; notes where a reference was not resolved. */
function withoutEmpty(value: unknown, path: PropertyKey[], unresolved: Set<string>): unknown {
  if (value === UNRESOLVED) unresolved.add(formatPath(path));
  if (Array.isArray(value)) {
    return value.map((item: unknown, i) => {
      const kept = withoutEmpty(item, [...path, i], unresolved);
      return kept === UNRESOLVED ? undefined : kept;
    });
  }
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value)) {
    const kept = withoutEmpty(item, [...path, key], unresolved);
    if (kept !== null && kept !== undefined && kept !== UNRESOLVED) entries.push([key, kept]);
  }
  return Object.fromEntries(entries);
}

import type { z } from "zod";
import type { ConfigFault } from "./config-error.ts";
import { formatPath } from "./fault-path.ts";

type Issue = z.core.$ZodIssue;

/** Keys whose value may be or contain a secret. Values below them are not shown either. */
const SECRET_KEY = /pass|secret|token|credential|auth|cookie|key|cert|dsn|ur[il]|connection|address/i;
const LONGEST_SHOWN = 40;

/** Converts the issues that the schema found in `value` to faults; `missing` marks those that only lack a value. */
export function schemaFaults(error: z.ZodError, value: unknown): (ConfigFault & { missing: boolean })[] {
  return error.issues.flatMap((issue) => issueFaults(issue, issue.path, value));
}

function issueFaults(
  issue: Issue,
  path: readonly PropertyKey[],
  root: unknown,
): (ConfigFault & { missing: boolean })[] {
  if (issue.code === "unrecognized_keys") {
    const messages = issue.message.split("\n");
    return issue.keys.map((key, i) => ({
      path: formatPath([...path, key]),
      message: messages.length === issue.keys.length ? (messages[i] ?? "unknown key") : "unknown key",
      missing: false,
    }));
  }
  if (issue.code === "invalid_union" && issue.errors.length > 0) {
    const branch = likeliestBranch(issue.errors);
    return branch.flatMap((inner) => issueFaults(inner, [...path, ...inner.path], root));
  }
  const value = lookUp(root, path);
  const missing = value === undefined;
  return [{ path: formatPath(path), message: describe(issue, value, path), missing }];
}

/** Chooses the closest alternative of a union: the one whose faults lie deepest, then the one with the fewest. */
function likeliestBranch(branches: readonly (readonly Issue[])[]): readonly Issue[] {
  const depth = (branch: readonly Issue[]) => Math.min(...branch.map(({ path }) => path.length));
  const ordered = branches.toSorted((a, b) => depth(b) - depth(a) || a.length - b.length);
  return ordered[0] ?? [];
}

function describe(issue: Issue, value: unknown, path: readonly PropertyKey[]): string {
  // Every message of zod begins like this: "Invalid input: expected string, received number".
  const message = issue.message.replace(/^[A-Z][a-z ]+: /, "").replace(/, received .*$/s, "");
  if (value === undefined) return `missing (${message})`;
  return `${message}${received(value, path)}${quotingHint(issue, value)}`;
}

function received(value: unknown, path: readonly PropertyKey[]): string {
  if (value === null) return ", got nothing";
  if (Array.isArray(value)) return ", got a list";
  if (typeof value === "object") return ", got a section";
  const text = JSON.stringify(value);
  const secret = path.some((part) => SECRET_KEY.test(String(part))) || text.includes("://");
  return secret || text.length > LONGEST_SHOWN ? `, got a ${typeof value}` : `, got ${text}`;
}

/** Adds a hint: YAML reads a password of digits as a number, unless it is quoted. */
function quotingHint(issue: Issue, value: unknown): string {
  const wantsString = issue.code === "invalid_type" && issue.expected === "string";
  return wantsString && (typeof value === "number" || typeof value === "boolean") ? "; put it in quotes" : "";
}

function lookUp(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

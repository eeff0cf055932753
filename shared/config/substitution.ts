/** The environment as a plain record, as `process.env` is. */
export type Environment = Readonly<Record<string, string | undefined>>;

const REFERENCE = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/;

/**
 * Replaces references to the environment in a text: `${NAME}`, or `${NAME:-default}` with a default for a variable that
 * is unset or empty. A default may contain references. `$${` stands for a literal `${`. Values of the environment are
 * not searched for references.
 *
 * @returns the text, and a message for each reference that could not be resolved
 */
export function substitute(text: string, env: Environment): { text: string; faults: string[] } {
  const faults: string[] = [];
  return { text: expand(text, env, faults), faults };
}

export function hasReference(text: string): boolean {
  return text.includes("${");
}

function expand(text: string, env: Environment, faults: string[]): string {
  let result = "";
  let from = 0;
  for (;;) {
    const open = text.indexOf("${", from);
    if (open === -1) return result + text.slice(from);
    if (open > from && text[open - 1] === "$") {
      result += `${text.slice(from, open - 1)}\${`;
      from = open + 2;
      continue;
    }
    const close = closingBrace(text, open + 2);
    if (close === -1) {
      faults.push("a ${ has no closing } (write $${ for a literal ${)");
      return result;
    }
    result += text.slice(from, open) + resolve(text.slice(open + 2, close), env, faults);
    from = close + 1;
  }
}

function resolve(reference: string, env: Environment, faults: string[]): string {
  const [, name, fallback] = REFERENCE.exec(reference) ?? [];
  if (name === undefined) {
    // The text is not repeated: it may contain a secret.
    faults.push("a reference is neither ${NAME} nor ${NAME:-default} (write $${ for a literal ${)");
    return "";
  }
  const value = env[name];
  if (fallback !== undefined) return value === undefined || value === "" ? expand(fallback, env, faults) : value;
  if (value === undefined) faults.push(`the environment variable ${name} is not set, and there is no default`);
  return value ?? "";
}

/** Finds the brace that closes a reference whose content starts at `from`, skipping nested references. */
function closingBrace(text: string, from: number): number {
  let depth = 1;
  for (let i = from; i < text.length; i++) {
    if (text[i] === "$" && text[i + 1] === "{") depth++;
    else if (text[i] === "}" && --depth === 0) return i;
  }
  return -1;
}

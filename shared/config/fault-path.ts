const PLAIN_KEY = /^[\w-]+$/;

/** Formats a YAML path: `a.b[0].c`. Keys with characters other than letters, digits, `_` and `-` are quoted. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else if (PLAIN_KEY.test(String(part))) text += text === "" ? String(part) : `.${String(part)}`;
    else text += `[${JSON.stringify(String(part))}]`;
  }
  return text;
}

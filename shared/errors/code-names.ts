import { Code } from "@connectrpc/connect";

/** Names of the status codes as the Connect protocol writes them: `not_found`. */
const names = new Map<Code, string>(
  Object.entries(Code)
    .filter((entry): entry is [string, Code] => typeof entry[1] === "number")
    .map(([name, code]) => [code, name.replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase()]),
);
const codes = new Map([...names].map(([code, name]) => [name, code]));

export function nameOfCode(code: Code): string {
  return names.get(code) ?? "unknown";
}

export function codeOfName(name: string): Code | undefined {
  return codes.get(name);
}

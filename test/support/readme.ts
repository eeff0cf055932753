import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./service-process.ts";

export interface FencedBlock {
  /** What stands behind the fence: `ts`. */
  readonly language: string;
  /** `file=…`: where it belongs. */
  readonly file?: string;
  readonly text: string;
}

export const readme = readFileSync(join(repository, "README.md"), "utf8");

/** Returns the text under a heading of the second rank, up to the next one. */
export function sectionOf(heading: string, document: string = readme): string {
  const start = document.indexOf(`\n## ${heading}\n`);
  if (start < 0) throw new Error(`there is no section "${heading}"`);
  const end = document.indexOf("\n## ", start + 1);
  return document.slice(start, end < 0 ? undefined : end);
}

/** The fenced blocks in order, without the indentation that they have in a list. */
export function blocksOf(text: string): FencedBlock[] {
  const fences = text.matchAll(/^( *)```(\w+)(?: file=(\S+))?\n(.*?)^\1```$/gms);
  return [...fences].map(([, indentation = "", language = "", file, body = ""]) => ({
    language,
    text: body.replaceAll(new RegExp(`^${indentation}`, "gm"), ""),
    ...(file !== undefined && { file }),
  }));
}

export interface CurlCall {
  /** Such as `http://localhost:8080`. */
  readonly url: string;
  readonly path: string;
  readonly data: string;
}

/** The `curl` in the text, in parts. */
export function curlIn(text: string): CurlCall {
  const [, url, path, data] = /curl (?:-\S+ (?:\d+ )?)*(https?:\/\/[^/\s]+)(\/\S+) .*-d '([^']+)'/.exec(text) ?? [];
  if (url === undefined || path === undefined || data === undefined) throw new Error("there is no curl");
  return { url, path, data };
}

/** Does what the `curl` would do. */
export async function call({ url, path, data }: CurlCall): Promise<string> {
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: data,
    signal: AbortSignal.timeout(10_000),
  });
  return response.text();
}

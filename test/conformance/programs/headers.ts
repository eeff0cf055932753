import { create } from "@bufbuild/protobuf";
import { type Header, HeaderSchema } from "./protos.ts";

export function toHeaders(list: readonly Header[]): Headers {
  const headers = new Headers();
  appendTo(headers, list);
  return headers;
}

export function appendTo(headers: Headers, list: readonly Header[]): void {
  for (const { name, value } of list) {
    for (const one of value) headers.append(name, one);
  }
}

/** Several values of one name are joined by commas; the runner splits them. */
export function fromHeaders(headers: Headers): Header[] {
  return [...headers].map(([name, value]) => create(HeaderSchema, { name, value: [value] }));
}

export function fromQuery(url: string): Header[] {
  const { searchParams } = new URL(url, "http://localhost");
  return [...new Set(searchParams.keys())].map((name) =>
    create(HeaderSchema, { name, value: searchParams.getAll(name) }),
  );
}

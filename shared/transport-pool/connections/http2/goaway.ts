import { nameOfHttp2Code } from "#shared/rpc";

/** What a GOAWAY says, for messages. */
export function describeGoaway(code: number, data: NodeJS.ArrayBufferView | undefined): string {
  const name = nameOfHttp2Code(code);
  if (data === undefined || data.byteLength === 0) return name;
  return `${name} ${JSON.stringify(textOf(data))}`;
}

export function textOf(data: NodeJS.ArrayBufferView | undefined): string {
  if (data === undefined) return "";
  return Buffer.from(data.buffer, data.byteOffset, Math.min(data.byteLength, 200)).toString("latin1");
}

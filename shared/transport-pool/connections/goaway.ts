/** What a GOAWAY says, for messages. */
export function describeGoaway(code: number, data: NodeJS.ArrayBufferView | undefined): string {
  const name = ERROR_NAMES[code] ?? `code ${code}`;
  if (data === undefined || data.byteLength === 0) return name;
  return `${name} ${JSON.stringify(textOf(data))}`;
}

export function textOf(data: NodeJS.ArrayBufferView | undefined): string {
  if (data === undefined) return "";
  return Buffer.from(data.buffer, data.byteOffset, Math.min(data.byteLength, 200)).toString("latin1");
}

/** By their numbers (RFC 9113, 7). */
const ERROR_NAMES = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
];

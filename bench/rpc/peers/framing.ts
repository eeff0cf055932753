/** Before each message: one byte of flags, four of length. */
const PREFIX_BYTES = 5;

/** A message as gRPC sends it, uncompressed. */
export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, PREFIX_BYTES);
  return framed;
}

/** Takes bytes as they come, and hands on each message once it is whole. */
export function createUnframer(onMessage: (message: Uint8Array) => void): (chunk: Buffer) => void {
  let rest: Buffer | undefined;
  return (chunk) => {
    const bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    while (bytes.length - at >= PREFIX_BYTES) {
      const end = at + PREFIX_BYTES + bytes.readUInt32BE(at + 1);
      if (bytes.length < end) break;
      onMessage(bytes.subarray(at + PREFIX_BYTES, end));
      at = end;
    }
    rest = at === bytes.length ? undefined : bytes.subarray(at);
  };
}

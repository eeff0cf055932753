/** Messages between the runner and a program: each follows its length, four bytes, big-endian. */

const PREFIX_BYTES = 4;
/** The runner's own limit. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** @throws RangeError for a message above the limit; Error when the input ends within a message */
export async function* readMessages(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of input) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= PREFIX_BYTES) {
      const length = rest.readUInt32BE();
      if (length > MAX_MESSAGE_BYTES) throw new RangeError(`a message of ${length} bytes`);
      const end = PREFIX_BYTES + length;
      if (rest.length < end) break;
      yield rest.subarray(PREFIX_BYTES, end);
      rest = rest.subarray(end);
    }
  }
  if (rest.length > 0) throw new Error(`the input ended ${rest.length} bytes into a message`);
}

export async function readMessage(input: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  for await (const message of readMessages(input)) return message;
  throw new Error("the input ended before the first message");
}

export function withLength(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  framed.writeUInt32BE(message.length);
  framed.set(message, PREFIX_BYTES);
  return framed;
}

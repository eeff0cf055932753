/**
 * The JSON values of a stream that has one on each line.
 *
 * @throws Error when a line is longer than `maxBytes`, or no JSON
 */
export async function* jsonLines(chunks: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<unknown> {
  let parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    let begin = 0;
    for (;;) {
      // A newline is one byte in UTF-8 and a part of no other character.
      const end = chunk.indexOf("\n", begin);
      const piece = chunk.subarray(begin, end === -1 ? undefined : end);
      size += piece.length;
      if (size > maxBytes) throw new Error(`a line is longer than ${maxBytes} bytes`);
      parts.push(piece);
      if (end === -1) break;
      begin = end + 1;
      const line = Buffer.concat(parts).toString("utf8").trim();
      parts = [];
      size = 0;
      if (line !== "") yield JSON.parse(line);
    }
  }
}

const FIRST = 0xcc9e2d51;
const SECOND = 0x1b873593;

/**
 * MurmurHash3_x86_32 (Austin Appleby) of the text's UTF-16LE bytes: the same in every process and on every machine.
 *
 * @returns a signed 32-bit integer, as `seed` is taken
 */
export function hashText(text: string, seed: number): number {
  let hash = seed;
  const whole = text.length & ~1;
  for (let index = 0; index < whole; index += 2) {
    hash = mixBlock(hash, text.charCodeAt(index) | (text.charCodeAt(index + 1) << 16));
  }
  if (whole < text.length) hash ^= scramble(text.charCodeAt(whole));
  return finish(hash ^ (text.length * 2));
}

/** MurmurHash3_x86_32 of one 32-bit number, for a seed that is a hash itself. */
export function hashNumber(value: number, seed: number): number {
  return finish(mixBlock(seed, value) ^ 4);
}

function mixBlock(hash: number, block: number): number {
  const mixed = hash ^ scramble(block);
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) | 0;
}

function scramble(block: number): number {
  const product = Math.imul(block, FIRST);
  return Math.imul((product << 15) | (product >>> 17), SECOND);
}

function finish(hash: number): number {
  let mixed = hash ^ (hash >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

import type { DomainError } from "#shared/errors";
import { tooLarge } from "../errors.ts";

/** Which bodies are too large for the broker. */
export interface SizeLimits {
  /** Learns the maximum size of a body from the broker's refusal. Returns false for other errors. */
  learn(error: unknown): boolean;
  /** Returns an error EVENT_TOO_LARGE when the broker does not take the body. */
  faultOf(body: Buffer): DomainError | undefined;
}

/** How long a limit that the broker has named is relied on: a restart may change it. */
const LIMIT_KNOWN_MS = 60_000;

export function createSizeLimits(): SizeLimits {
  let maxBodyBytes = Number.POSITIVE_INFINITY;
  let knownUntil = 0;

  return {
    learn(error) {
      const said = error instanceof Error ? error.message : "";
      const [, limit] = /message size \d+ is larger than .*?(\d+)/.exec(said) ?? [];
      if (limit === undefined) return false;
      maxBodyBytes = Number(limit);
      knownUntil = performance.now() + LIMIT_KNOWN_MS;
      return true;
    },
    faultOf(body) {
      if (body.length <= maxBodyBytes || performance.now() >= knownUntil) return undefined;
      return tooLarge(`the broker takes messages of up to ${maxBodyBytes} bytes, and this one has ${body.length}`);
    },
  };
}

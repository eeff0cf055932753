import type { Message } from "@bufbuild/protobuf";

/** Whoever the messages of an answer are for. */
export interface Recipient {
  isGone(): boolean;
  /** The first message is there, and the head of the answer goes before it. */
  begin(): void;
  /** @returns when there is room for the next, if there is none */
  add(message: Message): Promise<void> | undefined;
}

/** The head of an answer has something that HTTP does not allow: nothing can be told of that. */
export class Unwritable extends Error {
  constructor(cause: unknown) {
    super("the head cannot be written", { cause });
  }
}

/**
 * Hands on what a handler yields, and closes it when nobody takes any more of it.
 *
 * @returns whether that was all; false when the recipient has left
 * @throws Unwritable, and whatever the messages fail with
 */
export async function sendMessages(messages: AsyncIterable<Message>, recipient: Recipient): Promise<boolean> {
  const iterator = messages[Symbol.asyncIterator]();
  let hasBegun = false;
  for (;;) {
    const result = await iterator.next();
    if (result.done === true) return true;
    try {
      if (!recipient.isGone()) {
        if (!hasBegun) begin(recipient);
        hasBegun = true;
        const room = recipient.add(result.value);
        if (room !== undefined) await room;
      }
    } catch (error) {
      await iterator.return?.();
      throw error;
    }
    if (recipient.isGone()) {
      await iterator.return?.();
      return false;
    }
  }
}

function begin(recipient: Recipient): void {
  try {
    recipient.begin();
  } catch (error) {
    throw new Unwritable(error);
  }
}

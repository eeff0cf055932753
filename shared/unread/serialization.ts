import type { DescMessage, Message, MessageShape } from "@bufbuild/protobuf";
import { unreadBytes, unreadMessage } from "./message.ts";

/** How messages of one type are read from their bytes and written, as Connect has it. */
export interface Serialization<T> {
  parse(bytes: Uint8Array): T;
  serialize(message: T): Uint8Array<ArrayBuffer>;
}

/** Messages are left unread. `inner` is asked about those that are larger, or cannot be left. */
export function parseLater<Desc extends DescMessage>(
  desc: Desc,
  inner: Serialization<MessageShape<Desc>>,
  maxBytes: number,
): Serialization<MessageShape<Desc>>["parse"] {
  return (bytes) => (bytes.length > maxBytes ? undefined : unreadMessage(desc, bytes)) ?? inner.parse(bytes);
}

/** Unread messages go as they have come. `inner` is asked about all others, and those that are larger. */
export function serializeUnread<T extends Message>(
  inner: Serialization<T>,
  maxBytes: number,
): Serialization<T>["serialize"] {
  return (message) => {
    const bytes = unreadBytes(message);
    return bytes === undefined || bytes.length > maxBytes ? inner.serialize(message) : bytes;
  };
}

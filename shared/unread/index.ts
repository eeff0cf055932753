export { type HeaderFields, isPlainField, LazyHeaders } from "./lazy-headers.ts";
export { unreadBytes, unreadMessage } from "./message.ts";
export { parseLater, serializeUnread } from "./serialization.ts";

export { type HeaderFields, isPlainField, LazyHeaders } from "./lazy-headers.ts";
export { unreadBytes, unreadMessage } from "./message.ts";
export { parseLater, type Serialization, serializeUnread } from "./serialization.ts";

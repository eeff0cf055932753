export { unreadBytes, unreadMessage } from "./message.ts";
export { parseLater, serializeUnread } from "./serialization.ts";

export { callNext } from "./call-next.ts";
export { COMPRESSED_FLAG, FrameReader, type FrameSink, tooLarge } from "./frame-reader.ts";
export { encodeFrame, FrameDecoder, frameMessages, PREFIX_BYTES } from "./frames.ts";
export {
  compressedWithoutEncoding,
  type Decompression,
  type Flow,
  MessageQueue,
  type MessageQueueOptions,
} from "./message-queue.ts";
export { codeOfReset, nameOfHttp2Code } from "./reset-code.ts";
export { dropTransportHeaders, isTransportHeader, validateField } from "./transport-headers.ts";
export { type ItemWatch, watchItems } from "./watch-items.ts";

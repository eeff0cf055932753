export { callNext } from "./call-next.ts";
export { FrameDecoder, frameMessages, PREFIX_BYTES } from "./frames.ts";
export { type ItemWatch, watchItems } from "./watch-items.ts";

export { FrameDecoder, frameMessages } from "./frames.ts";
export { type ItemWatch, watchItems } from "./watch-items.ts";

export { callNext } from "./call-next.ts";
export { FrameDecoder, frameMessages, PREFIX_BYTES } from "./frames.ts";
export { dropTransportHeaders, isTransportHeader, validateField } from "./transport-headers.ts";
export { type ItemWatch, watchItems } from "./watch-items.ts";

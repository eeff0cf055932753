export { callNext } from "./call-next.ts";
export { codeOfName, nameOfCode } from "./code-names.ts";
export { FrameDecoder, frameMessages, PREFIX_BYTES } from "./frames.ts";
export { codeOfReset, nameOfHttp2Code } from "./reset-code.ts";
export { dropTransportHeaders, isTransportHeader, validateField } from "./transport-headers.ts";
export { type ItemWatch, watchItems } from "./watch-items.ts";

export {
  type CallContext,
  currentCall,
  detached,
  isInEmbeddedTransaction,
  iterateInCall,
  remainingMs,
  runInCall,
  runInEmbeddedTransaction,
} from "./call-context.ts";
export { beginCall, contextHeaderPairs, contextHeaders, readContextHeaders, writeContextHeaders } from "./headers.ts";
export { continueTrace, formatTraceparent, startTrace, type Trace } from "./trace.ts";
export { uuid } from "./uuid.ts";

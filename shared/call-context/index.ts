export {
  type CallContext,
  currentCall,
  detached,
  iterateInCall,
  remainingMs,
  runInCall,
} from "./call-context.ts";
export { beginCall, contextHeaderPairs, contextHeaders, readContextHeaders, writeContextHeaders } from "./headers.ts";
export { continueTrace, formatTraceparent, startTrace, type Trace } from "./trace.ts";

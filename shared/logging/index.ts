export type { LogDestination } from "./destination.ts";
export { type LogConfig, logSection } from "./log-section.ts";
export { createLogThrottle, type LogThrottle, type LogThrottleOptions, type ThrottledLog } from "./log-throttle.ts";
export { callFields, createLogger, type Logger, type LoggerOptions } from "./logger.ts";
export { redactLine } from "./redact.ts";

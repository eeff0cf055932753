export { ConfigError, type ConfigFault } from "./config-error.ts";
export { type DurationLimits, duration } from "./duration.ts";
export { type LoadConfigOptions, loadConfig } from "./load-config.ts";
export { type Section, section } from "./section.ts";

export { changedSections } from "./changed-sections.ts";
export { ConfigError, type ConfigFault } from "./config-error.ts";
export { type DurationLimits, duration } from "./duration.ts";
export { configFile, type LoadConfigOptions, loadConfig } from "./load-config.ts";
export { type Section, section } from "./section.ts";
export { checkCertAndKey, tlsFileKeys } from "./tls-files.ts";
export { type WatchConfigOptions, watchConfig } from "./watch-config.ts";

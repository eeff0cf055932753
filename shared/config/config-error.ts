/** One fault of a configuration file. */
export interface ConfigFault {
  /** YAML path: `grpc_clients.services[0].retry.max`. Empty for a fault of the whole file. */
  readonly path: string;
  /** Description of the fault. Never contains the value of a key that may be a secret. */
  readonly message: string;
}

/**
 * Reports that a configuration cannot be used, with all of its faults. The message is the name of the file and one line
 * for each fault; it can be printed unchanged.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly file: string;
  readonly faults: readonly ConfigFault[];

  constructor(file: string, faults: readonly ConfigFault[], options?: ErrorOptions) {
    const lines = faults.map(({ path, message }) => (path === "" ? `  ${message}` : `  ${path}: ${message}`));
    super([`${file}: ${faults.length} ${faults.length === 1 ? "fault" : "faults"}`, ...lines].join("\n"), options);
    this.file = file;
    this.faults = faults;
  }
}

/** One thing that is wrong with a configuration file. */
export interface ConfigFault {
  /** Where, in the file's own keys: `grpc_clients.services[0].retry.max`. Empty when it is the file as a whole. */
  readonly path: string;
  /** What is wrong. Never holds the value of a key that may carry a secret. */
  readonly message: string;
}

/**
 * The configuration cannot be used. Thrown once with every fault found, so that a file is mended in one go;
 * the message is the file's name and then one fault a line, fit to be printed as it is.
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

import type { Logger } from "#shared/logging";
import type { UserRepository } from "./users.ts";

/** Counts a greeting of a user. Other names are not counted: callers choose them, and each would be a row for ever. */
export type CountGreeting = (name: string) => Promise<void>;

export interface CountGreetingOptions {
  readonly repository: Pick<UserRepository, "countGreeting">;
  readonly logger: Logger;
}

export function createCountGreeting({ repository, logger }: CountGreetingOptions): CountGreeting {
  return async (name) => {
    // Without the name: it may be a person's.
    if (await repository.countGreeting(name)) logger.info("greeting counted");
  };
}

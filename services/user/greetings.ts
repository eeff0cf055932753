import type { Logger } from "#shared/logging";
import type { UserRepository } from "./users.ts";

/** Counts a greeting that went out, whoever has said it. */
export type CountGreeting = (name: string) => Promise<void>;

export interface CountGreetingOptions {
  readonly repository: Pick<UserRepository, "countGreeting">;
  readonly logger: Logger;
}

export function createCountGreeting({ repository, logger }: CountGreetingOptions): CountGreeting {
  return async (name) => {
    await repository.countGreeting(name);
    // Without the name: a log is no place for people's.
    logger.info("greeting counted");
  };
}

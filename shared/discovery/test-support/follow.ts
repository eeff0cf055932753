import type { TestContext } from "node:test";
import { createLogger, type Logger } from "#shared/logging";
import { createResolver, discoverySection, type Resolver, targetSchema } from "../index.ts";
import { createRecorder, type Recorder } from "./recorder.ts";

const silent = createLogger({ name: "test", config: { level: "silent", format: "json" } });

export interface Followed {
  readonly told: Recorder;
  readonly resolver: Resolver;
}

/** Starts a resolver, with the shortest delays, and stops it after the test. */
export function follow(t: TestContext, address: string, discovery: object, logger: Logger = silent): Followed {
  const told = createRecorder();
  const resolver = createResolver(targetSchema.parse(address), {
    discovery: discoverySection.parse(discovery),
    logger,
    random: () => 0,
  });
  t.after(() => resolver.stop());
  resolver.start(told);
  return { told, resolver };
}

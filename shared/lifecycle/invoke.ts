/** Calls a step of a part. A synchronous throw becomes a rejection. */
export async function invoke(step: () => Promise<void> | void): Promise<void> {
  await step();
}

import type { TestContext } from "node:test";
import { bounded } from "#shared/timing";

const CLOSE_TIMEOUT_MS = 15_000;

type Close = () => unknown;

const opened = new WeakMap<TestContext, Close[]>();

/**
 * Closes something when the test has ended, after the test's own `t.after` hooks. What was opened last is closed first.
 * Every `close` runs, also when another one fails or a hook does, and fails the test when it takes longer than 15 s.
 * (`t.after` runs its hooks in the order of their registration and stops at the first that fails or hangs; what is left
 * open then keeps the process alive.)
 */
export function closeAfter(t: TestContext, close: Close): void {
  const known = opened.get(t);
  if (known !== undefined) {
    known.push(close);
    return;
  }
  const stack = [close];
  opened.set(t, stack);
  // A hook that a hook adds runs after all others.
  t.after(() => t.after(() => closeAll(stack)));
  // Fires after the hooks. Something is left only when one of them has failed, and the test with it.
  t.signal.addEventListener("abort", () => void closeAll(stack).catch(() => {}));
}

async function closeAll(stack: Close[]): Promise<void> {
  const errors: unknown[] = [];
  for (let close = stack.pop(); close !== undefined; close = stack.pop()) {
    const outcome = await bounded((async () => close())(), CLOSE_TIMEOUT_MS);
    if (outcome.kind === "failed") errors.push(outcome.cause);
    if (outcome.kind === "overran") errors.push(new Error(`not closed within ${CLOSE_TIMEOUT_MS} ms: ${close}`));
  }
  if (errors.length > 0)
    throw new AggregateError(errors, `what the test has opened cannot be closed: ${errors.join("; ")}`);
}

import { setTimeout as delay } from "node:timers/promises";

const ACKS_MS = 250;

/**
 * Waits for the last acknowledgements before their channel closes. A broker that has more than 32 of them on their way to
 * a quorum queue then forgets the rest, and those messages come again (rabbitmq-server #10327).
 */
export async function untilAcknowledged(): Promise<void> {
  await delay(ACKS_MS);
}

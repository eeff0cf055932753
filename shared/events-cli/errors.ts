import { DomainError } from "#shared/errors";

export function queueNotFound(queue: string, cause?: unknown): DomainError {
  return new DomainError("not_found", "QUEUE_NOT_FOUND", `there is no queue ${queue}`, { metadata: { queue }, cause });
}

/** @param searched how many of the queue's messages: those at its head */
export function deadLetterNotFound(queue: string, id: string, searched: number, count: number): DomainError {
  const where = searched < count ? `among the oldest ${searched} of the ${count} in ${queue}` : `in ${queue}`;
  return new DomainError("not_found", "DEAD_LETTER_NOT_FOUND", `there is no event ${id} ${where}`, {
    metadata: { queue, event_id: id },
  });
}

/** @param word what was to be done: an event in another state cannot be, such as one `pending` that is to be retried */
export function outboxEventNotFound(service: string, id: bigint, word?: string): DomainError {
  const which = word === undefined ? "" : ` that can be ${word}`;
  const message = `there is no event ${id}${which} in the outbox of ${service}`;
  return new DomainError("not_found", "OUTBOX_EVENT_NOT_FOUND", message, { metadata: { id: String(id) } });
}

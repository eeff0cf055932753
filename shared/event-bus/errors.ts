import { DomainError } from "#shared/errors";

/** The broker may have the event all the same: publishing it again may make a copy, which has the same id. */
export function busUnavailable(message: string, cause?: unknown): DomainError {
  return new DomainError("unavailable", "EVENT_BUS_UNAVAILABLE", message, cause === undefined ? {} : { cause });
}

export function unroutable(routingKey: string): DomainError {
  return new DomainError("unavailable", "EVENT_UNROUTABLE", "no queue takes the event", {
    metadata: { routing_key: routingKey },
  });
}

/** The in-process bus has a queue that takes the event, and no consumer of it. No outage: other events go on. */
export function notConsumed(queue: string): DomainError {
  return new DomainError("unavailable", "EVENT_NOT_CONSUMED", `the queue ${queue} has no consumer`, {
    metadata: { queue },
  });
}

export function refused(message: string, cause?: unknown): DomainError {
  return new DomainError("resource_exhausted", "EVENT_REFUSED", message, cause === undefined ? {} : { cause });
}

/** Neither the broker nor the connection takes an event of this size: to send it again does not help. */
export function tooLarge(message: string, cause?: unknown): DomainError {
  return new DomainError("resource_exhausted", "EVENT_TOO_LARGE", message, cause === undefined ? {} : { cause });
}

/** The connection lives, and is too slow for an event of this size: sending it again may not help. */
export function notConfirmed(bytes: number, allowedMs: number): DomainError {
  const message = `an event of ${bytes} bytes was not confirmed within ${allowedMs} ms: see rabbitmq.publish_timeout`;
  return new DomainError("resource_exhausted", "EVENT_NOT_CONFIRMED", message);
}

/** Publishing the message to another queue would change it, so only the broker itself can move it. */
export function unmovable(message: string): DomainError {
  return new DomainError("failed_precondition", "EVENT_UNMOVABLE", `the message cannot be moved: ${message}`);
}

/** Whether the broker could not be asked, as opposed to a refusal of this event. */
export function isBusOutage(error: unknown): error is DomainError {
  return error instanceof DomainError && error.reason === "EVENT_BUS_UNAVAILABLE";
}

/** The broker has a declaration that differs from the configuration. A restart does not help. */
export class TopologyError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "TopologyError";
  }
}

/** Thrown by a handler when no later attempt can succeed: the message becomes a dead letter at once, with this reason. */
export class RejectedEventError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "RejectedEventError";
  }
}

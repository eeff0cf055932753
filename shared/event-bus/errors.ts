import { DomainError } from "#shared/errors";

/** The event may be with the broker all the same: what publishes again must expect a copy, which has the same id. */
export function busUnavailable(message: string, cause?: unknown): DomainError {
  return new DomainError("unavailable", "EVENT_BUS_UNAVAILABLE", message, cause === undefined ? {} : { cause });
}

export function unroutable(routingKey: string): DomainError {
  return new DomainError("unavailable", "EVENT_UNROUTABLE", "no queue takes the event", {
    metadata: { routing_key: routingKey },
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

/** Whether the bus could not be asked, as opposed to its answer being no. */
export function isBusOutage(error: unknown): error is DomainError {
  return error instanceof DomainError && error.reason === "EVENT_BUS_UNAVAILABLE";
}

/** What is declared on the broker differs from what the configuration says. Restarting does not help. */
export class TopologyError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "TopologyError";
  }
}

/**
 * For a handler to throw: no later attempt can succeed. The message becomes a dead letter at once, with this reason.
 */
export class RejectedEventError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "RejectedEventError";
  }
}

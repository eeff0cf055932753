import { bounded } from "#shared/timing";
import { busUnavailable } from "../errors.ts";

/** @throws what the work throws; DomainError EVENT_BUS_UNAVAILABLE when the broker takes longer than `timeoutMs` */
export async function answered<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const outcome = await bounded(work, timeoutMs);
  if (outcome.kind === "done") return outcome.value;
  throw outcome.kind === "failed" ? outcome.cause : busUnavailable("the broker does not answer");
}

import type { Round, SideMemory } from "../line.ts";
import type { Measured, MeasuredVariant } from "../measure.ts";
import type { VariantName } from "../variants.ts";

/** A round by its CPU times; the rest is the same for all. */
export function round(server: number, client: number, gateway?: number): Round {
  const cpuMicros = { server, client, ...(gateway === undefined ? {} : { gateway }) };
  return { calls: 1_000, perSecond: 1e6 / (server + client), p50Ms: 1, p99Ms: 2, cpuMicros };
}

export function measuredVariant(name: VariantName, rounds: readonly Round[], memory?: SideMemory): MeasuredVariant {
  return { name, rounds, ...(memory === undefined ? {} : { memory }) };
}

export function smallUnary(...variants: readonly MeasuredVariant[]): Measured {
  return { scenario: "unary-small-64", variants };
}

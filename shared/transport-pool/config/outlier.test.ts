import assert from "node:assert/strict";
import { test } from "node:test";
import { outlierSection } from "./outlier.ts";

function faultPaths(yaml: unknown): string[] {
  const { error } = outlierSection.safeParse(yaml);
  return (error?.issues ?? []).map(({ path }) => path.join(".")).sort();
}

test("the defaults are gRFC A50's, and it is on", () => {
  assert.deepEqual(outlierSection.parse({}), {
    enabled: true,
    intervalMs: 10_000,
    baseEjectionTimeMs: 30_000,
    maxEjectionTimeMs: 300_000,
    maxEjectionPercent: 10,
    successRate: { stdevFactor: 1900, enforcementPercent: 100, minHosts: 5, requestVolume: 100 },
    failurePercentage: { threshold: 85, enforcementPercent: 100, minHosts: 5, requestVolume: 50 },
  });
});

test("each key can be set alone", () => {
  const config = outlierSection.parse({ interval: "1s", success_rate: { min_hosts: 3 } });
  assert.equal(config.intervalMs, 1_000);
  assert.equal(config.successRate.minHosts, 3);
  assert.equal(config.successRate.requestVolume, 100);
});

test("shares are whole percents, times are above 0, counts are not negative", () => {
  const faults = {
    interval: "0",
    base_ejection_time: 30,
    max_ejection_percent: 101,
    success_rate: { stdev_factor: -1, enforcement_percent: 12.5, min_hosts: -1 },
    failure_percentage: { threshold: 101, request_volume: "50" },
  };
  assert.deepEqual(faultPaths(faults), [
    "base_ejection_time",
    "failure_percentage.request_volume",
    "failure_percentage.threshold",
    "interval",
    "max_ejection_percent",
    "success_rate.enforcement_percent",
    "success_rate.min_hosts",
    "success_rate.stdev_factor",
  ]);
});

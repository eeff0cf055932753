import assert from "node:assert/strict";
import { test } from "node:test";
import { outlierSection } from "../../config/outlier.ts";
import { seededRandom } from "../policies/test-support.ts";
import { createOutlierEjection, type OutlierEjection } from "./outlier-ejection.ts";

const INTERVAL = 10_000;
const OFF = { enforcement_percent: 0 };

function addresses(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `p${index}`);
}

/** @param yaml over gRFC A50's defaults */
function ejection(yaml: object = {}, random: () => number = () => 0): OutlierEjection {
  return createOutlierEjection({ config: outlierSection.parse(yaml), random });
}

function answers(outliers: OutlierEjection, address: string, successes: number, failures: number): void {
  for (let call = 0; call < successes; call++) outliers.record(address, true);
  for (let call = 0; call < failures; call++) outliers.record(address, false);
}

/** Peers by number; those not named answer all of 100 calls. */
interface Interval {
  readonly answers?: Readonly<Record<number, [successes: number, failures: number]>>;
  readonly ejected?: readonly number[];
  readonly returned?: readonly number[];
  /** Of the first peer, after the sweep. */
  readonly multiplier?: number;
}

/** Interval for interval, the sweeps coming a little late, as timers do. */
function play(yaml: object, count: number, intervals: readonly Interval[], random?: () => number): void {
  const outliers = ejection(yaml, random);
  const peers = addresses(count);
  for (const [index, interval] of intervals.entries()) {
    for (const [place, address] of peers.entries()) {
      const [successes, failures] = interval.answers?.[place] ?? (outliers.isEjected(address) ? [0, 0] : [100, 0]);
      answers(outliers, address, successes, failures);
    }
    const swept = outliers.sweep(index * (INTERVAL + 1), peers);
    const expected = [interval.ejected ?? [], interval.returned ?? []];
    const actual = [swept.ejected, swept.returned].map((list) => list.map((address) => peers.indexOf(address)));
    assert.deepEqual(actual, expected, `interval ${index}`);
    if (interval.multiplier !== undefined) {
      assert.equal(outliers.states().get("p0")?.multiplier, interval.multiplier, `interval ${index}`);
    }
  }
}

test("a peer whose success rate is far below the others' is ejected for 30 s", () => {
  // Rates: 0.7 once and 1 nine times: mean 0.97, deviation 0.09, and so below 0.799 is out.
  play({ failure_percentage: OFF }, 10, [
    { answers: { 0: [70, 30] }, ejected: [0], multiplier: 1 },
    {},
    {},
    { returned: [0], multiplier: 1 },
    { multiplier: 0 },
    { multiplier: 0 },
  ]);
});

test("a peer that is not below mean less 1.9 deviations stays", () => {
  // One of five is two deviations off, whatever its rate, and so are two of ten.
  play({ failure_percentage: OFF }, 5, [{ answers: { 0: [99, 1] }, ejected: [0] }]);
  play({ failure_percentage: OFF, success_rate: { stdev_factor: 2100 } }, 10, [
    { answers: { 0: [0, 100], 1: [0, 100] } },
  ]);
  // Three of ten are 1.53 deviations off.
  play({ failure_percentage: OFF }, 10, [{ answers: { 0: [50, 50], 1: [50, 50], 2: [50, 50] } }]);
});

test("when all fail alike nobody is an outlier by success rate", () => {
  const all = Object.fromEntries(Array.from({ length: 10 }, (_, place) => [place, [40, 60] as [number, number]]));
  play({}, 10, [{ answers: all }]);
});

test("a peer of whose calls more than 85 % fail is ejected, at 85 % it is not", () => {
  play({ success_rate: OFF }, 10, [{ answers: { 0: [15, 85] } }]);
  play({ success_rate: OFF }, 10, [{ answers: { 0: [14, 86] }, ejected: [0] }]);
});

test("only peers with the volume count towards min_hosts", () => {
  const few: Record<number, [number, number]> = { 0: [0, 100], 4: [99, 0], 5: [99, 0], 6: [99, 0] };
  play({ failure_percentage: OFF }, 7, [{ answers: few }]);
  play({ failure_percentage: OFF }, 7, [{ answers: { ...few, 4: [100, 0] }, ejected: [0] }]);
  const fewer: Record<number, [number, number]> = { 0: [0, 50], 4: [49, 0], 5: [49, 0], 6: [49, 0] };
  play({ success_rate: OFF }, 7, [{ answers: fewer }]);
  play({ success_rate: OFF }, 7, [{ answers: { ...fewer, 4: [50, 0] }, ejected: [0] }]);
});

test("a peer without the volume is neither judged nor part of the mean", () => {
  play({ failure_percentage: OFF }, 10, [{ answers: { 0: [0, 99] } }]);
  play({ success_rate: OFF }, 10, [{ answers: { 0: [0, 49] } }]);
  // Counted in, p1 would pull the mean down so far that p0 passes.
  const pulled: Record<number, [number, number]> = { 0: [70, 30], 1: [0, 99] };
  play({ failure_percentage: OFF }, 10, [{ answers: pulled, ejected: [0] }]);
  play({ failure_percentage: OFF, success_rate: { request_volume: 99 } }, 10, [{ answers: pulled, ejected: [1] }]);
});

test("no more are ejected once 10 % are, and those may be rounded up", () => {
  const cases: [peers: number, ejected: number[]][] = [
    [5, [0]],
    [10, [0]],
    [11, [0, 1]],
    [20, [0, 1]],
    [21, [0, 1, 2]],
  ];
  for (const [count, ejected] of cases) {
    const bad: Record<number, [number, number]> = { 0: [0, 100], 1: [0, 100], 2: [0, 100], 3: [0, 100] };
    play({ success_rate: OFF }, count, [{ answers: bad, ejected }, { answers: bad }]);
  }
});

test("one is ejected whatever the limit", () => {
  play({ max_ejection_percent: 0 }, 5, [
    { answers: { 0: [0, 100], 1: [0, 100] }, ejected: [0] },
    { answers: { 1: [0, 100] } },
  ]);
});

test("with a limit of 100 % all may be ejected", () => {
  const all = Object.fromEntries(Array.from({ length: 5 }, (_, place) => [place, [0, 100] as [number, number]]));
  play({ max_ejection_percent: 100 }, 5, [{ answers: all, ejected: [0, 1, 2, 3, 4] }]);
});

test("success rate is looked at before failure percentage, and none is ejected twice in one sweep", () => {
  // p1 is the only outlier by rate; by its failures p0 is one too, and stands before it.
  const rates = { max_ejection_percent: 100, success_rate: { min_hosts: 10 }, failure_percentage: { threshold: 20 } };
  play(rates, 10, [{ answers: { 0: [70, 30], 1: [0, 100] }, ejected: [1, 0] }]);
  play({}, 10, [{ answers: { 0: [0, 100] }, ejected: [0], multiplier: 1 }]);
});

test("an ejected peer whose late answers fail is not ejected again, and its time does not begin again", () => {
  const late: Interval = { answers: { 0: [0, 100] } };
  play({}, 10, [{ ...late, ejected: [0], multiplier: 1 }, late, late, { ...late, returned: [0], multiplier: 1 }]);
});

test("each ejection is longer than the last by the base, as long as there is no good interval between", () => {
  const bad = { 0: [0, 100] as [number, number] };
  play({}, 10, [
    { answers: bad, ejected: [0], multiplier: 1 },
    ...Array<Interval>(2).fill({}),
    { returned: [0] },
    { answers: bad, ejected: [0], multiplier: 2 },
    ...Array<Interval>(5).fill({ multiplier: 2 }),
    { returned: [0] },
    { multiplier: 1 },
    { answers: bad, ejected: [0], multiplier: 2 },
    ...Array<Interval>(5).fill({}),
    { returned: [0] },
    { multiplier: 1 },
    { multiplier: 0 },
    { multiplier: 0 },
  ]);
});

test("no ejection is longer than max_ejection_time, or than the base if that is more", () => {
  const lengths = (yaml: object, times: number): number[] => {
    const outliers = ejection({ interval: "1s", success_rate: OFF, ...yaml });
    const peers = addresses(5);
    const found: number[] = [];
    for (let now = 0; found.length < times; now += 1_000) {
      if (!outliers.isEjected("p0")) {
        for (const address of peers) answers(outliers, address, address === "p0" ? 0 : 50, address === "p0" ? 50 : 0);
      }
      if (outliers.sweep(now, peers).ejected.length > 0) found.push(outliers.states().get("p0")!.ejectedUntil! - now);
    }
    return found;
  };
  assert.deepEqual(lengths({ base_ejection_time: "2s", max_ejection_time: "5s" }, 4), [2_000, 4_000, 5_000, 5_000]);
  assert.deepEqual(lengths({ base_ejection_time: "5s", max_ejection_time: "2s" }, 3), [5_000, 5_000, 5_000]);
});

test("a peer returns after its time, not at it", () => {
  const outliers = ejection();
  const peers = addresses(5);
  for (const address of peers) answers(outliers, address, address === "p0" ? 0 : 100, address === "p0" ? 100 : 0);
  assert.deepEqual(outliers.sweep(0, peers).ejected, ["p0"]);
  assert.deepEqual(outliers.sweep(30_000, peers).returned, []);
  assert.equal(outliers.isEjected("p0"), true);
  assert.deepEqual(outliers.sweep(30_001, peers).returned, ["p0"]);
  assert.equal(outliers.isEjected("p0"), false);
});

test("by enforcement_percent, an outlier stays by chance", () => {
  for (const rule of ["success_rate", "failure_percentage"]) {
    const other = rule === "success_rate" ? "failure_percentage" : "success_rate";
    const yaml = { [rule]: { enforcement_percent: 40 }, [other]: OFF };
    play(yaml, 10, [{ answers: { 0: [0, 100] }, ejected: [0] }], () => 0.399);
    play(yaml, 10, [{ answers: { 0: [0, 100] } }], () => 0.4);
  }
});

test("a percentage of 100 always holds and one of 0 never, whatever is drawn", () => {
  for (const drawn of [0, 0.5, 1 - Number.EPSILON]) {
    play({}, 10, [{ answers: { 0: [0, 100] }, ejected: [0] }], () => drawn);
    play({ success_rate: OFF, failure_percentage: OFF }, 10, [{ answers: { 0: [0, 100] } }], () => drawn);
  }
});

test("each interval is judged by its own calls", () => {
  play({ success_rate: OFF }, 5, [
    { answers: { 0: [0, 49] } },
    { answers: { 0: [0, 49] } },
    { answers: { 0: [0, 50] }, ejected: [0] },
  ]);
});

test("addresses that are gone are forgotten, and begin anew when they come back", () => {
  const outliers = ejection();
  const peers = addresses(5);
  for (const address of peers) answers(outliers, address, address === "p0" ? 0 : 100, address === "p0" ? 100 : 0);
  outliers.sweep(0, peers);
  outliers.record("p0", false);
  assert.deepEqual(outliers.sweep(10_000, peers.slice(1)), { ejected: [], returned: [] });
  assert.equal(outliers.isEjected("p0"), false);
  assert.deepEqual([...outliers.states().keys()], ["p1", "p2", "p3", "p4"]);
  outliers.sweep(20_000, peers);
  assert.deepEqual(outliers.states().get("p0"), { ejectedUntil: undefined, multiplier: 0, successes: 0, failures: 0 });
});

test("the states tell what the last sweep saw", () => {
  const outliers = ejection();
  const peers = addresses(5);
  for (const address of peers) answers(outliers, address, 100, 0);
  answers(outliers, "p3", 0, 900);
  outliers.sweep(5, peers);
  answers(outliers, "p3", 0, 7);
  assert.deepEqual(outliers.states().get("p3"), {
    ejectedUntil: 30_005,
    multiplier: 1,
    successes: 100,
    failures: 900,
  });
});

test("when it is off nothing is counted and nobody is ejected", () => {
  play({ enabled: false }, 10, [{ answers: { 0: [0, 100] } }, { answers: { 0: [0, 100] } }]);
});

test("whatever happens, no more are ejected than allowed and each returns in time", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(seed);
    const upTo = (most: number) => Math.floor(random() * (most + 1));
    const config = outlierSection.parse({
      max_ejection_percent: upTo(100),
      success_rate: { min_hosts: upTo(5), request_volume: 1 + upTo(20), stdev_factor: upTo(2_000) },
      failure_percentage: { min_hosts: upTo(5), request_volume: 1 + upTo(20), threshold: upTo(100) },
    });
    const outliers = createOutlierEjection({ config, random });
    const ejectedAt = new Map<string, number>();
    let peers = addresses(1 + upTo(30));
    let now = 0;
    for (let interval = 0; interval < 80; interval++) {
      if (random() < 0.1) peers = addresses(1 + upTo(30));
      for (const address of peers) {
        const isBad = random() < 0.3;
        answers(outliers, address, isBad ? upTo(5) : upTo(40), isBad ? upTo(40) : upTo(3));
      }
      now += INTERVAL + upTo(50);
      for (const address of ejectedAt.keys()) if (!peers.includes(address)) ejectedAt.delete(address);
      const before = ejectedAt.size;
      const { ejected, returned } = outliers.sweep(now, peers);
      const most = Math.max(1, Math.ceil((peers.length * config.maxEjectionPercent) / 100 - 1e-9));
      // A set that has shrunk may hold more, but then no more come.
      if (ejected.length > 0) assert.ok(before + ejected.length <= most, `seed ${seed}`);
      for (const address of ejected) {
        assert.ok(!ejectedAt.has(address), `seed ${seed}: ejected twice`);
        ejectedAt.set(address, now);
      }
      for (const address of returned) {
        const since = ejectedAt.get(address);
        assert.ok(since !== undefined && now - since > 30_000, `seed ${seed}: returned too early`);
        ejectedAt.delete(address);
      }
      for (const [address, { ejectedUntil, multiplier }] of outliers.states()) {
        assert.ok(peers.includes(address) && multiplier >= 0);
        assert.equal(ejectedUntil !== undefined, ejectedAt.has(address), `seed ${seed}`);
        assert.equal(outliers.isEjected(address), ejectedAt.has(address));
        if (ejectedUntil !== undefined) assert.ok(now <= ejectedUntil && ejectedUntil - now <= 300_000, `seed ${seed}`);
      }
    }
  }
});

/** The guard on runs that were made to collapse, and on a quiet one: their metrics as they were logged (LOG.md, 2026-11-30). */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageFolder, packagedConfig, readOverride, readYaml, resolveConfig, type Config } from "../../src/config/index.ts";
import type { Metrics } from "../../src/rl/metrics.ts";
import { refuseCollapse } from "../../src/run/collapse.ts";
import { guardStep, newGuard, type GuardMemory } from "../../src/run/guard.ts";

const recorded = (name: string): (Metrics & { step: number })[] =>
  readFileSync(join(packageFolder, "test/fixtures/guard", `${name}.jsonl`), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Metrics & { step: number });

/** Signs by step. */
function watch(rows: readonly (Metrics & { step: number })[], validates = true): { step: number; signs: readonly string[] }[] {
  let memory: GuardMemory = newGuard;
  return rows.flatMap(({ step, ...metrics }) => {
    const judged = metrics["validation/f1"];
    const guarded = guardStep(memory, { step, metrics, validation: validates && judged !== undefined ? judged : null });
    // What is saved with a run is all that is remembered.
    memory = JSON.parse(JSON.stringify(guarded.memory)) as GuardMemory;
    return guarded.signs.length === 0 ? [] : [{ step, signs: guarded.signs }];
  });
}

/** The first step at which validation has lost .1 from its best so far. */
function lostAt(rows: readonly Metrics[]): number {
  let best = 0;
  return 1 + rows.findIndex((row) => (best = Math.max(best, row["validation/f1"]!)) - row["validation/f1"]! > 0.1);
}

describe("a guard", () => {
  it.each([
    ["quiet-1", 61],
    ["slow-3", 73],
  ])("says nothing of %s for as long as validation stays within .05 of its best, which is %i steps", (name, steps) => {
    const rows = recorded(name).slice(0, steps);
    let best = 0;
    for (const row of rows) {
      best = Math.max(best, row["validation/f1"]!);
      expect(best - row["validation/f1"]!).toBeLessThanOrEqual(0.05);
    }
    expect(watch(rows)).toEqual([]);
  });

  const strides = /^the updates take steps too large .*: one made a rewarded rollout [\d.]+ times as likely/;
  // Five times the learning rate and no clip; a simulator whose sets all tell the answer; one whose useful sets do, whatever is asked.
  it.each<[string, RegExp[]]>([
    ...["hot-1", "hot-3", "hot-4", "hot-5", "hot-6", "hot-7"].map((name): [string, RegExp[]] => [name, [strides]]),
    ...["hot-1", "hot-3", "hot-4", "hot-5"].map((name): [string, RegExp[]] => [
      name,
      [/^the updates push right answers down .*: the last [345] steps made a rewarded rollout \d+ % less likely/],
    ]),
    ...["leak-2", "leak-3"].map((name): [string, RegExp[]] => [name, [/^the simulator gives answers away: (100|9\d) %/]]),
    ...["told-1", "told-2"].map((name): [string, RegExp[]] => [name, [strides, /^the share of valid rollouts has fallen/]]),
  ])("sees %s collapse before validation has lost .1, whether it is told of validations or not: %s", (name, words) => {
    const rows = recorded(name);
    const lost = lostAt(rows);
    for (const validates of [true, false]) {
      const before = watch(rows, validates).filter(({ step }) => step < lost);
      const signs = before.flatMap((one) => one.signs);
      for (const one of words) expect(signs).toEqual(expect.arrayContaining([expect.stringMatching(one)]));
      // Where the fall takes more than 20 steps, at least 10 before.
      if (name === "told-1") expect(before[0]!.step).toBeLessThanOrEqual(lost - 10);
    }
  });

  it("sees a slow fall of validation alone, 60 steps long, at least 10 steps before .1 is lost, and not while it is within .05", () => {
    const rows = recorded("slow-3");
    const best = Math.max(...rows.map((row) => row["validation/f1"]!));
    const left = 1 + rows.findIndex((row) => best - row["validation/f1"]! > 0.05 && row.step > 46);
    expect([left, lostAt(rows)]).toEqual([74, 106]);
    const [first] = watch(rows);
    expect(first!.step).toBe(74);
    expect(first!.signs[0]).toMatch(/^validation has fallen from F1 0\.817 \(step 46\)/);
    expect(watch(rows, false)).toEqual([]);
  });

  const steps = (count: number, of: (step: number) => Metrics) => Array.from({ length: count }, (_, i) => ({ step: i + 1, ...of(i + 1) }));
  const well: Metrics = {
    "reward/mean": 0.6,
    "rollout/valid": 0.9,
    "rollout/repeated": 0.01,
    "rollout/policy_tokens": 70,
    "policy/entropy": 0.2,
    "policy/trained_tokens": 1000,
    "policy/grad_norm": 0.2,
    "policy/kl_reference": 0.01,
    "policy/rewarded_logprob_gain": 0.001,
  };
  const after = (step: number, from: number, change: Metrics): Metrics => (step < from ? well : { ...well, ...change });

  it.each<[string, Metrics, RegExp]>([
    ["a reward that falls below .6 of its best", { "reward/mean": 0.3 }, /^the reward has fallen from 0\.6 to 0\.3/],
    [
      "a valid share that falls below .7 of its best",
      { "rollout/valid": 0.5 },
      /^the share of valid rollouts has fallen from 0\.9 to 0\.5/,
    ],
    ["rollouts that repeat themselves", { "rollout/repeated": 0.3 }, /^\d+ % of the rollouts say one thing over and over/],
    ["rollouts that grow", { "rollout/policy_tokens": 300 }, /^rollouts have grown from 70 policy tokens to/],
    ["a gradient norm that grows", { "policy/grad_norm": 3 }, /^the gradient norm has grown from 0\.2 to/],
    ["KL that jumps", { "policy/kl_reference": 1 }, /^KL to the reference policy has grown from 0\.01 to/],
    ["entropy that explodes", { "policy/entropy": 3 }, /^entropy has grown from 0\.2 to/],
    ["entropy of 0", { "policy/entropy": 0 }, /^entropy is .* nats: nothing new is tried/],
    [
      "right answers that become less likely",
      { "policy/rewarded_logprob_gain": -0.004 },
      /the last [345] steps made a rewarded rollout \d+ % less likely/,
    ],
  ])("sees %s within five steps, once, and again when it comes back", (_, change, words) => {
    expect(watch(steps(40, () => well))).toEqual([]);
    const [first, ...more] = watch(steps(40, (step) => after(step, 20, change)));
    expect(first!.step).toBeGreaterThanOrEqual(20);
    expect(first!.step).toBeLessThan(25);
    expect(first!.signs).toHaveLength(1);
    expect(first!.signs[0]).toMatch(words);
    expect(more).toEqual([]);
    const twice = watch(steps(80, (step) => (step < 20 || (step >= 26 && step < 60) ? well : { ...well, ...change })));
    expect(twice).toHaveLength(2);
  });

  it("sees a simulator that gives answers away in a third of its noisy sets, of twenty in three steps at least", () => {
    const simulator = (leak: number, searches: number): Metrics => ({
      ...well,
      "simulator/searches": searches,
      "simulator/noise_share": 0.25,
      "simulator/leak_noisy": leak,
    });
    const [first, ...more] = watch(steps(30, (step) => simulator(step < 10 ? 0.05 : 0.35, 200)));
    expect(first).toMatchObject({ step: 12, signs: [expect.stringMatching(/^the simulator gives answers away: 35 % of its noisy sets/)] });
    expect(more).toEqual([]);
    expect(watch(steps(30, () => simulator(0.25, 200)))).toEqual([]);
    expect(watch(steps(30, () => simulator(1, 24)))).toEqual([]);
    expect(watch(steps(30, () => simulator(1, 28)))).toHaveLength(1);
  });

  it("sees two validations on end that are .05 below the best, and one after others that were half as far below, not one alone", () => {
    const judged = (...scores: number[]) => watch(scores.map((f1, i) => ({ step: i + 1, ...well, "validation/f1": f1 })));
    expect(judged(0.8, 0.8, 0.8, 0.7, 0.8, 0.76)).toEqual([]);
    expect(judged(0.8, 0.76, 0.76, 0.76, 0.74).map(({ step }) => step)).toEqual([5]);
    expect(judged(0.8, 0.79, 0.74, 0.73)[0]).toMatchObject({ step: 4 });
    expect(judged(0.8, 0.74, 0.73)[0]!.signs[0]).toMatch(/^validation has fallen from F1 0\.8 \(step 1\) to 0\.74 and 0\.73/);
  });

  it("takes what is not measured for no sign: steps without an update, without searches, without rewarded rollouts", () => {
    expect(watch(steps(40, () => ({ "reward/mean": 0 })))).toEqual([]);
    expect(watch(steps(40, (step) => (step % 2 === 0 ? well : { "reward/mean": 0.6 })))).toEqual([]);
  });

  it("ends a run only where it is asked to, in words that say what to do", () => {
    const config = (action: string): Config =>
      resolveConfig([...readYaml(packagedConfig("quickstart")), readOverride(`guard.action=${action}`)]);
    const seen = { step: 9, signs: ["one sign", "another"], lasting: [] };
    const history = { best: { step: 4, score: 0.7 }, validations: [], since: { steps: 0, reward: 0, noise: 0 } };
    for (const action of ["warn", "off"]) expect(() => refuseCollapse(config(action), seen, history)).not.toThrow();
    expect(() => refuseCollapse(config("stop"), { ...seen, signs: [] }, history)).not.toThrow();
    const stop = (): void => refuseCollapse(config("stop"), seen, history);
    expect(stop).toThrow("step 9: training is about to collapse: one sign; another");
    expect(stop).toThrow("The best state is that of step 4.");
    const lasting = { ...seen, lasting: ["another"] };
    expect(() => refuseCollapse(config("stop"), lasting, history)).toThrow("one sign; another");
    expect(() => refuseCollapse(config("rollback"), lasting, history)).toThrow(/one sign$/m);
    expect(() => refuseCollapse(config("rollback"), { ...lasting, signs: ["another"] }, history)).not.toThrow();
    const back = { ...history, rollbacks: [{ to: 4, from: 9, signs: [] }] };
    expect(() => refuseCollapse(config("rollback"), seen, back)).toThrow("It went back 1 time.");
    expect(() => refuseCollapse(config("rollback"), seen, history)).toThrow("There is no good state to go back to.");
  });
});

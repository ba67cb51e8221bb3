/** When a policy counts as dead, and what is said of it. */
import { expect, it } from "vitest";
import { collapseNote, isDead } from "../../src/run/collapse.ts";

const dead = { "reward/mean": 0, "rollout/valid": 0, "policy/entropy": 0, "policy/grad_norm": 0 };

it("a step is dead where it earned nothing, nothing was valid, and the update had nothing to learn from", () => {
  expect(isDead(dead)).toBe(true);
  // A skipped update has no norm.
  expect(isDead({ "reward/mean": 0, "rollout/valid": 0, "policy/entropy": 0 })).toBe(true);
});

for (const [name, value] of [
  ["reward/mean", 0.01],
  ["rollout/valid", 0.1],
  ["policy/entropy", 0.3],
  ["policy/grad_norm", 0.02],
] as const)
  it(`it is not where ${name} is ${value}`, () => expect(isDead({ ...dead, [name]: value })).toBe(false));

it("three dead steps at the end are a collapse, which names the step it began at, and whether the best state is one of them", () => {
  expect(collapseNote(2, 10, null)).toBeUndefined();
  expect(collapseNote(3, 10, { step: 4 })).toMatch(/since step 8 .* The best state, step 4, is from before\./);
  expect(collapseNote(3, 10, { step: 8 })).toMatch(/step 8, is one of them: nothing good was found/);
  expect(collapseNote(10, 10, null)).toMatch(/since step 1 .* No state was chosen/);
});

import { describe, expect, it } from "vitest";
import { AdaptiveNoise, drawKind, noiseAt, noiseProbability } from "../../src/search/curriculum.ts";
import { mean } from "../../src/util/stats.ts";

describe("curriculum", () => {
  it.each([
    [51, 0.069],
    [102, 0.168],
    [152, 0.304],
    [202, 0.4955],
    [203, 0.5],
    [500, 0.5],
  ])("follows the paper's formula at step %i of 203", (step, p) => {
    expect(noiseProbability(step, { start: 0, end: 0.5, steps: 203 })).toBeCloseTo(p, 3);
  });

  it("is exact where it can be worked out by hand", () => {
    // (4^(1/2) - 1) / 3 = 1/3
    expect(noiseProbability(50, { start: 0.25, end: 1, steps: 100 })).toBeCloseTo(0.5, 15);
    expect(noiseProbability(0, { start: 0.25, end: 1, steps: 100 })).toBe(0.25);
    expect(noiseProbability(100, { start: 0.25, end: 1, steps: 100 })).toBe(1);
    expect(noiseProbability(50, { start: 1, end: 0, steps: 100 })).toBeCloseTo(2 / 3, 15);
    expect(noiseProbability(50, { start: 0, end: 1, steps: 100, base: 1 })).toBe(0.5);
    expect(noiseProbability(7, { start: 0.3, end: 0.3, steps: 100 })).toBe(0.3);
  });

  it("has other forms to compare with: constant, random between the two, reversed", () => {
    const schedule = { start: 0.1, end: 0.7, steps: 100 };
    for (const step of [1, 50, 500]) expect(noiseProbability(step, { ...schedule, form: "constant" })).toBe(0.1);
    // .7 - (4^(1/2) - 1) / 3 * .6
    expect(noiseProbability(50, { ...schedule, form: "reversed" })).toBeCloseTo(0.5, 15);
    expect(noiseProbability(100, { ...schedule, form: "reversed" })).toBe(0.1);
    const drawn = Array.from({ length: 400 }, (_, i) => noiseProbability(i + 1, { ...schedule, form: "random", seed: 3 }));
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0.1);
    expect(Math.max(...drawn)).toBeLessThan(0.7);
    // The mean of 400 draws of uniform [.1, .7): five standard errors are .043.
    expect(Math.abs(mean(drawn) - 0.4)).toBeLessThan(0.043);
    expect(noiseProbability(7, { ...schedule, form: "random", seed: 3 })).toBe(drawn[6]);
    expect(noiseProbability(7, { ...schedule, form: "random", seed: 4 })).not.toBe(drawn[6]);
  });

  it("may answer to the policy: noise rises above a band of rewards, falls below it, and stays inside its bounds", () => {
    const noise = new AdaptiveNoise({ start: 0.25, end: 0.75, low: 0.4, high: 0.6, change: 0.25 });
    const levels = [0.7, 0.6, 0.5, undefined, 0.9, 1, 0.1, 0, 0, 0.41].map((reward) => {
      noise.update(reward);
      return noise.level;
    });
    expect(levels).toEqual([0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 0.5, 0.25, 0.25, 0.25]);
    noise.resume(0.5);
    expect([noiseAt(1, noise), noiseAt(99, noise)]).toEqual([0.5, 0.5]);
    for (const wrong of [{ start: 0.8 }, { end: 1.1 }, { low: 0.7 }, { change: 0 }])
      expect(() => new AdaptiveNoise({ start: 0.25, end: 0.75, low: 0.4, high: 0.6, change: 0.25, ...wrong })).toThrow(
        "adaptive noise: wrong bounds",
      );
  });

  it("refuses what is no probability, base or length", () => {
    expect(() => noiseProbability(1, { start: -0.1, end: 0.5, steps: 10 })).toThrow(
      "curriculum.start: not a probability; expected 0 to 1, got -0.1",
    );
    expect(() => noiseProbability(1, { start: 0, end: NaN, steps: 10 })).toThrow("curriculum.end");
    expect(() => noiseProbability(1, { start: 0, end: 1, steps: 0 })).toThrow("curriculum.steps");
    expect(() => noiseProbability(1, { start: 0, end: 1, steps: 1, base: 0 })).toThrow("curriculum.base");
  });

  it("draws each search by itself, the same way every time", () => {
    const kinds = new Map<string, string>();
    let noisy = 0;
    for (let question = 0; question < 50; question++)
      for (let rollout = 0; rollout < 10; rollout++)
        for (let turn = 0; turn < 4; turn++) {
          const kind = drawKind(5, { step: 3, question, rollout }, turn, 0.3);
          kinds.set(`${question}/${rollout}/${turn}`, kind);
          if (kind === "noisy") noisy++;
        }
    // 2,000 draws of p = .3: five standard errors are .051
    expect(Math.abs(noisy / 2000 - 0.3)).toBeLessThan(0.051);
    for (const [place, kind] of [...kinds].reverse()) {
      const [question, rollout, turn] = place.split("/").map(Number) as [number, number, number];
      expect(drawKind(5, { step: 3, question, rollout }, turn, 0.3)).toBe(kind);
    }
  });

  it("draws otherwise for another seed, step, question, rollout or turn", () => {
    const row = (seed: number, step: number, question: number, rollout: number): string =>
      Array.from({ length: 64 }, (_, turn) => drawKind(seed, { step, question, rollout }, turn, 0.5)).join();
    const base = row(1, 1, 1, 1);
    for (const other of [row(2, 1, 1, 1), row(1, 2, 1, 1), row(1, 1, 2, 1), row(1, 1, 1, 2)]) expect(other).not.toBe(base);
  });

  it("is never noisy at 0 and always at 1", () => {
    for (let turn = 0; turn < 1000; turn++) {
      expect(drawKind(1, { step: 1, question: 0, rollout: 0 }, turn, 0)).toBe("useful");
      expect(drawKind(1, { step: 1, question: 0, rollout: 0 }, turn, 1)).toBe("noisy");
    }
  });

  it("makes what is likelier noisy at a lower probability noisy at a higher one", () => {
    for (let turn = 0; turn < 200; turn++) {
      const key = { step: 1, question: 0, rollout: 0 };
      if (drawKind(1, key, turn, 0.2) === "noisy") expect(drawKind(1, key, turn, 0.4)).toBe("noisy");
    }
  });
});

import { describe, expect, it } from "vitest";
import { QuestionSampler } from "../../src/data/question-sampler.ts";
import { makeRandom } from "../../src/data/random.ts";
import { ConfigError } from "../../src/util/errors.ts";

const questions = Array.from({ length: 10 }, (_, i) => `q${i}`);

describe("QuestionSampler", () => {
  it("asks every question once an epoch", () => {
    const sampler = new QuestionSampler(questions, 5, 7);
    const asked = [...sampler.step(1), ...sampler.step(2)].map((q) => q.index).sort((a, b) => a - b);
    expect(asked).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("is a function of seed and step only, whatever was asked before", () => {
    const walked = new QuestionSampler(questions, 3, 7);
    for (let step = 1; step < 9; step++) walked.step(step);
    expect(walked.step(9)).toEqual(new QuestionSampler(questions, 3, 7).step(9));
    expect(new QuestionSampler(questions, 3, 8).step(9)).not.toEqual(walked.step(9));
  });

  it("never asks a question twice in one step, at the seam of two epochs either", () => {
    const sampler = new QuestionSampler(questions, 4, 1);
    for (let step = 1; step <= 200; step++) {
      const indices = sampler.step(step).map((q) => q.index);
      expect(new Set(indices).size).toBe(4);
    }
  });

  it("rejects a step larger than the set", () => {
    expect(() => new QuestionSampler(questions, 11, 1)).toThrow(ConfigError);
  });

  it("shuffles by name", () => {
    const shuffled = (name: string) => makeRandom(name).shuffle(questions);
    expect(shuffled("a")).toEqual(shuffled("a"));
    expect(shuffled("a")).not.toEqual(shuffled("b"));
  });
});

import { describe, expect, it } from "vitest";
import { normalizerNotes } from "../../src/run/run-data.ts";
import type { Question } from "../../src/rl/trajectory.ts";

const questions = (...goldenAnswers: string[][]): Question[] =>
  goldenAnswers.map((answers, i) => ({ id: String(i), question: "?", goldenAnswers: answers, dataSource: "t" }));

describe("golden answers that SQuAD's normal form takes wrongly", () => {
  it("are counted when a run is opened, with one of them", () => {
    expect(normalizerNotes("squad", questions(["Paris", "the U.S."], ["-5", "C++"], ["東京", "cafe\u0301"]))).toEqual([
      'note: 4 of 6 golden answers hold what SQuAD\'s normal form takes wrongly, such as "-5"; reward.normalizer=unicode takes them right (docs/scores.md)',
    ]);
  });

  it("are no matter where there are none, or where the unicode normalizer is set", () => {
    expect(normalizerNotes("squad", questions(["Paris"], ["Côte d'Ivoire", "1990-1995", "A"]))).toEqual([]);
    expect(normalizerNotes("unicode", questions(["-5"]))).toEqual([]);
  });
});

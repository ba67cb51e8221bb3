import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { scoreAnswer, usualRules, type ScoreRules } from "../../src/rl/reward.ts";
import { containsAnswer, normaliseAnswer } from "../../src/util/normalise-answer.ts";

const unicode: ScoreRules = { ...usualRules, normalizer: "unicode" };
const asSquad: ScoreRules = { ...usualRules, emptyAnswersAsSquad: true };

describe("the unicode normalizer", () => {
  it.each([
    ["cafe\u0301", "café"], // NFD
    ["“Paris”", "paris"],
    ["«Париж».", "париж"],
    ["Hawaiʻi", "hawaii"],
    ["O’Brien", "obrien"],
    ["１２３ＡＢＣ", "123abc"],
    ["10²", "10²"], // NFKC would say 102
    ["zero\u200bwidth", "zerowidth"],
    ["¿Qué?", "qué"],
    ["मुंबई।", "मुंबई"],
    ["£5", "5"],
    ["東京。", "東 京"],
    ["「東京タワー」", "東 京 タ ワ ー"],
    ["ガ ｶﾞ か\u3099", "ガ ガ が"],
    ["NHK放送", "nhk 放 送"],
    ["กรุงเทพฯ", "ก รุ ง เ ท พ ฯ"],
    ["서울", "서울"], // Korean has spaces
    ["-5", "-5"],
    ["\u22125 °C", "-5 °c"],
    ["(–5)", "-5"],
    ["-$5", "-5"],
    ["$-5", "-5"],
    ["气温-5度", "气 温 -5 度"],
    ["1990-1995", "19901995"],
    ["1990–1995", "19901995"],
    ["COVID-19", "covid19"],
    ["- 5", "5"],
    ["C++", "c++"],
    ["C#, F#.", "c# f#"],
    ["Disney+", "disney+"],
    ["+49 2+2", "49 22"],
    ["A-", "a-"],
    ["AB\u2212", "ab-"],
    ["pre- and post-war", "pre and postwar"],
    ["3.5", "3.5"],
    ["1,234.5", "1234.5"],
    ["1.2.3 A.B.C. 5.", "123 abc 5"],
    ["The “a” an A", ""],
    ["+", ""],
    ["。", ""],
  ])("makes %j into %j", (text, normal) => {
    expect(normaliseAnswer(text, "unicode")).toBe(normal);
    expect(normaliseAnswer(normal, "unicode")).toBe(normal);
  });

  const sign = fc.constantFrom(..."aA.,-+#$ 5éе\u0301\u2212–“”’東ーใ่ກ。「１．·\u00ad\u3099ﾞ");
  it("is idempotent", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "grapheme" }), fc.string({ unit: sign })), (text) => {
        const normal = normaliseAnswer(text, "unicode");
        expect(normaliseAnswer(normal, "unicode")).toBe(normal);
      }),
      { numRuns: 3000 },
    );
  });

  // Letters of the articles most of all, and all else but the signs that it keeps.
  const ascii = `aAnThe the an a ${Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join("")}\n\t`.replace(/[-+#.]/g, "");
  it("is SQuAD's where a text is ASCII and has no sign that it keeps", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...ascii) }), (text) => {
        expect(normaliseAnswer(text, "unicode")).toBe(normaliseAnswer(text));
      }),
      { numRuns: 2000 },
    );
  });

  it("takes no longer for a word of punctuation than its length allows", () => {
    expect(normaliseAnswer(`a${".".repeat(200_000)}b`, "unicode")).toBe("ab");
  });
});

describe("scores", () => {
  const all = { f1: 1, em: 1, subem: 1 },
    none = { f1: 0, em: 0, subem: 0 };

  it.each([
    ["5", "-5"],
    ["C", "C++"],
    ["15", "1.5"],
  ])("pay %j for %j by SQuAD's rules, and not by the unicode ones", (answer, golden) => {
    expect(scoreAnswer(answer, [golden])).toEqual(all);
    expect(scoreAnswer(answer, [golden], unicode)).toMatchObject({ f1: 0, em: 0 });
    expect(scoreAnswer(golden, [golden], unicode)).toEqual(all);
  });

  it.each([
    ["café", "cafe\u0301"],
    ["“Paris”", "Paris"],
    ["东京。", "东京"],
  ])("pay nothing for %j against %j by SQuAD's rules, and all by the unicode ones", (answer, golden) => {
    expect(scoreAnswer(answer, [golden])).toMatchObject({ f1: 0, em: 0 });
    expect(scoreAnswer(answer, [golden], unicode)).toEqual(all);
  });

  it("count characters as words in Chinese, Japanese and Thai", () => {
    // 東 京 of 東 京 都: P 2/3, R 1
    expect(scoreAnswer("東京都", ["東京"], unicode).f1).toBeCloseTo(4 / 5, 15);
    // ก รุ ง of ก รุ ง เ ท พ: P 1, R 3/6
    expect(scoreAnswer("กรุง", ["กรุงเทพ"], unicode).f1).toBeCloseTo(6 / 9, 15);
    expect(scoreAnswer("東京都", ["東京"]).f1).toBe(0);
    expect(containsAnswer("日本の首都は東京です。", ["東京"], unicode)).toBe(true);
    expect(containsAnswer("日本の首都は東京です。", ["東京"])).toBe(false);
  });

  it.each(["A", "The", "+", "...", "?!"])("compare %j as it is written, since nothing of it is left in normal form", (golden) => {
    for (const rules of [usualRules, unicode]) {
      expect(scoreAnswer(golden, [golden], rules)).toEqual(all);
      expect(scoreAnswer(` ${golden.toLowerCase()}\n`, [golden], rules)).toEqual(all);
      expect(scoreAnswer("", [golden], rules)).toEqual(none);
      expect(scoreAnswer("an", [golden], rules)).toEqual(none);
      expect(scoreAnswer("Paris", [golden], rules)).toEqual(none);
    }
    // As SQuAD's script: never paid by F1, and an empty answer is an exact match.
    expect(scoreAnswer(golden, [golden], asSquad)).toEqual({ f1: 0, em: 1, subem: 1 });
    expect(scoreAnswer("", [golden], asSquad)).toEqual({ f1: 0, em: 1, subem: 1 });
  });

  it("look for such an answer among words, not among characters", () => {
    // grade, a: 1 of 2, 1 of 1
    expect(scoreAnswer("grade A", ["A"])).toEqual({ f1: 2 / 3, em: 0, subem: 1 });
    expect(scoreAnswer("Alabama", ["A"])).toEqual(none);
    expect(containsAnswer("It is a text.", ["A"])).toBe(false);
  });

  it("are as ever for golden answers that have a normal form, whatever the answer", () => {
    expect(scoreAnswer("", ["Paris"])).toEqual(none);
    expect(scoreAnswer("the", ["Paris"])).toEqual(none);
    expect(scoreAnswer("A", ["Paris", "A"])).toEqual(all);
  });

  it("refuse golden answers that are a text", () => {
    expect(() => scoreAnswer("Paris", "Paris" as never)).toThrow(
      'reward: golden answers are no list; expected a list of texts, got "Paris"',
    );
  });
});

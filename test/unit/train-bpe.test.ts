import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { loadCountryRecords, makeCountries } from "../../src/data/quickstart/countries.ts";
import { inventedSource } from "../../src/data/quickstart/invented.ts";
import { PolicyScript, segmentText } from "../../src/data/quickstart/scripted-policy.ts";
import { SimulatorScript } from "../../src/data/quickstart/scripted-simulator.ts";
import { eosToken, makeTokenizer, padToken } from "../../src/data/quickstart/tokenizer-texts.ts";
import { makeWorld } from "../../src/data/quickstart/world.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";
import { trainBpe, type TokenizerJson } from "../../src/text/train-bpe.ts";
import { ConfigError } from "../../src/util/errors.ts";

const world = makeWorld(makeCountries(loadCountryRecords()));
const source = inventedSource(world);
let json: TokenizerJson;
let seconds: number;
let tokenizer: Tokenizer;

beforeAll(() => {
  const start = performance.now();
  json = makeTokenizer(source, 7);
  seconds = (performance.now() - start) / 1000;
  tokenizer = new Tokenizer(json, { eos_token: eosToken, pad_token: padToken });
}, 30_000);

const plain = (text: string): number[] => tokenizer.encode(text, { parseSpecialTokens: false });

describe("trainBpe", () => {
  it("merges the commonest pair first and breaks ties by the lower ids", () => {
    // "abab" x 2, "abc" x 1: ab stands 5 times, ba 2, bc 1; then ab+ab 2, ab+c 1.
    const { model } = trainBpe(["abab", "1abab", "2abc"], { vocabSize: 259, specialTokens: [], countPower: 1 });
    expect(model.merges).toEqual([
      ["a", "b"],
      ["ab", "ab"],
      ["ab", "c"],
    ]);
    expect([model.vocab["ab"], model.vocab["abab"], model.vocab["abc"]]).toEqual([256, 257, 258]);
    const tie = trainBpe(["by", "ax"], { vocabSize: 257, specialTokens: [], countPower: 1 });
    expect(tie.model.merges).toEqual([["a", "x"]]);
  });

  it("counts words to the power given: at 0.5 three rare words beat one word four times as frequent", () => {
    const texts = ["zq\nzq\nzq\nzq", "abc\nabd\nabe"];
    const first = (countPower: number): string =>
      trainBpe(texts, { vocabSize: 257, specialTokens: [], countPower }).model.merges[0]!.join("");
    expect(first(1)).toBe("zq");
    expect(first(0.5)).toBe("ab");
  });

  it("gives the same file for the same texts", () => {
    const texts = ["the capital of France is Paris", "Paris is the capital of France"];
    const options = { vocabSize: 280, specialTokens: [padToken] };
    expect(JSON.stringify(trainBpe(texts, options))).toBe(JSON.stringify(trainBpe(texts.slice(), options)));
  });

  it("refuses a vocabulary without room for the bytes, and texts too short to fill it", () => {
    expect(() => trainBpe(["a"], { vocabSize: 256, specialTokens: [padToken] })).toThrow(
      new ConfigError({
        where: "trainBpe",
        what: "vocabSize too small",
        expected: "257 or more (special tokens and 256 bytes)",
        got: "256",
      }).message,
    );
    expect(() => trainBpe(["ab"], { vocabSize: 300, specialTokens: [] })).toThrow(/too few pairs; expected 300 tokens, got 257/);
  });
});

describe("the quickstart's tokenizer", () => {
  it("has 1,024 tokens and is trained in less than 20 seconds", () => {
    expect(Object.keys(json.model.vocab)).toHaveLength(1024);
    expect(new Set(Object.values(json.model.vocab)).size).toBe(1024);
    expect(json.model.merges).toHaveLength(1024 - 256 - 2);
    expect(seconds).toBeLessThan(20);
  });

  it("gives back every text, whatever its script", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(tokenizer.decode(plain(text))).toBe(text);
      }),
      { numRuns: 300 },
    );
    for (const text of ["São Tomé and Príncipe", "  two  spaces\n\n\ttab", "日本 .jp 🇯🇵", "a<b </c> <|eos|>"])
      expect(tokenizer.decode(plain(text))).toBe(text);
  });

  it("splits held-out names no finer than training names, by a fifth at most", () => {
    const mean = (names: readonly string[]): number => names.reduce((sum, name) => sum + plain(` ${name}`).length, 0) / names.length;
    const train = mean(world.split.train.map((country) => country.name));
    const heldOut = mean([...world.split.validation, ...world.split.test].map((country) => country.name));
    expect(train).toBeGreaterThan(3);
    expect(heldOut / train).toBeLessThan(1.2);
    const values = (side: "train" | "test"): number => mean(world.split[side].flatMap((country) => Object.values(country.facts).flat()));
    expect(values("test") / values("train")).toBeLessThan(1.2);
  });

  it("writes each tag in two tokens of ordinary text, the second of which is the same for all", () => {
    const close = plain(">");
    expect(close).toHaveLength(1);
    for (const name of ["think", "search", "answer", "information"]) {
      for (const tag of [`<${name}>`, ` </${name}>`]) {
        if (tag === " </information>") continue; // documents end in a full stop, not in a space
        const ids = plain(tag);
        expect(ids, tag).toHaveLength(2);
        expect(ids[1]).toBe(close[0]);
      }
    }
    expect(plain("</information>")).toHaveLength(2);
    expect(plain("\n\n")).toHaveLength(1);
  });

  it("has special tokens for padding and end only, and plain text cannot yield them", () => {
    expect(json.added_tokens.map((token) => [token.id, token.content])).toEqual([
      [0, padToken],
      [1, eosToken],
    ]);
    const ids = plain(`Doc 1: ${eosToken} ${padToken}.`);
    expect(ids.some((id) => id < 2)).toBe(false);
  });

  it("encodes piece by piece and as a whole to the same ids, so that a turn's end never changes tokens", () => {
    const policy = new PolicyScript(source, "test/bpe/policy");
    const simulator = new SimulatorScript(source, "test/bpe/simulator");
    for (let i = 0; i < 60; i++) {
      for (const segments of [policy.next(), simulator.next()]) {
        expect(segments.flatMap((segment) => plain(segment.text))).toEqual(plain(segmentText(segments)));
      }
    }
  });
});

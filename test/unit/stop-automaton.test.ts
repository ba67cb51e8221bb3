import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileStops } from "../../src/generate/stop-automaton.ts";
import { EOS_CODE, FIRST_STOP_CODE, type StopTable } from "../../src/generate/types.ts";

const encoder = new TextEncoder();
const bytesOf = (s: string): Uint8Array => encoder.encode(s);

/** The code after each id until a stop, as a device would run it. */
function run(table: StopTable, ids: readonly number[]): { steps: number; code: number } {
  let state = table.start;
  for (const [i, id] of ids.entries()) {
    state = table.transitions[state * table.vocabulary + id]!;
    const code = table.accepts[state]!;
    if (code !== 0) return { steps: i + 1, code };
  }
  return { steps: ids.length, code: 0 };
}

/** The same by searching the bytes decoded so far, since the last token without bytes. */
function search(
  tokens: readonly string[],
  stops: readonly string[],
  eosIds: readonly number[],
  ids: readonly number[],
): { steps: number; code: number } {
  let text = "";
  for (const [i, id] of ids.entries()) {
    if (eosIds.includes(id)) return { steps: i + 1, code: EOS_CODE };
    const token = tokens[id]!;
    if (token === "") text = "";
    for (const character of token) {
      text += character;
      const index = stops.findIndex((stop) => text.endsWith(stop));
      if (index >= 0) return { steps: i + 1, code: FIRST_STOP_CODE + index };
    }
  }
  return { steps: ids.length, code: 0 };
}

describe("compileStops", () => {
  test("stops exactly where a search of the decoded bytes finds the first closed stop string, for random vocabularies and streams", () => {
    const letter = fc.constantFrom("a", "b", "<", "/");
    const word = (min: number, max: number): fc.Arbitrary<string> =>
      fc.array(letter, { minLength: min, maxLength: max }).map((letters) => letters.join(""));
    fc.assert(
      fc.property(
        fc.uniqueArray(word(1, 4), { maxLength: 4 }),
        fc.array(word(0, 6), { minLength: 2, maxLength: 10 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        fc.boolean(),
        (stops, tokens, picks, withEos) => {
          const eosIds = withEos ? [tokens.length - 1] : [];
          const ids = picks.map((p) => p % tokens.length);
          const table = compileStops({
            stops: stops.map(bytesOf),
            eosIds,
            tokenBytes: (id) => bytesOf(tokens[id]!),
            vocabulary: tokens.length,
          });
          expect(run(table, ids)).toEqual(search(tokens, stops, eosIds, ids));
        },
      ),
      { numRuns: 2000 },
    );
  });

  const tokens = ["</", "sea", "rch", ">", "x", "</search>\n", "<", "/answer></search>", "", "r", "c", "h", ">>", "</answer", "s"];
  const table = compileStops({
    stops: [bytesOf("</search>"), bytesOf("</answer>")],
    eosIds: [8],
    tokenBytes: (id) => bytesOf(tokens[id]!),
    vocabulary: tokens.length,
  });
  const id = (token: string): number => tokens.indexOf(token);

  test("a tag spread over tokens stops in the token that closes it, also with text after it", () => {
    expect(run(table, [id("x"), id("</"), id("sea"), id("rch"), id(">"), id("x")])).toEqual({ steps: 5, code: FIRST_STOP_CODE });
    expect(run(table, [id("</"), id("sea"), id("rch"), id(">>")])).toEqual({ steps: 4, code: FIRST_STOP_CODE });
    expect(run(table, [id("</search>\n")])).toEqual({ steps: 1, code: FIRST_STOP_CODE });
  });

  test("of two tags that close in one token the first wins", () => {
    expect(run(table, [id("<"), id("/answer></search>")])).toEqual({ steps: 2, code: FIRST_STOP_CODE + 1 });
  });

  test("a false start falls back to the longest suffix that is still a prefix", () => {
    expect(run(table, [id("</"), id("</"), id("sea"), id("r"), id("c"), id("h"), id(">")])).toEqual({ steps: 7, code: FIRST_STOP_CODE });
    expect(run(table, [id("</"), id("x"), id("sea"), id("rch"), id(">")]).code).toBe(0);
  });

  test("the end-of-sequence id accepts from any state", () => {
    expect(run(table, [id("</"), id("")])).toEqual({ steps: 2, code: EOS_CODE });
  });

  test("ids that have no bytes reset a tag that has begun", () => {
    const padded = compileStops({ stops: [bytesOf("ab")], eosIds: [], tokenBytes: (i) => bytesOf(["a", "b"][i] ?? ""), vocabulary: 4 });
    expect(run(padded, [0, 3, 1]).code).toBe(0);
    expect(run(padded, [3, 0, 1])).toEqual({ steps: 3, code: FIRST_STOP_CODE });
  });

  test("without stop strings only the end of sequence stops", () => {
    const only = compileStops({ stops: [], eosIds: [1], tokenBytes: () => bytesOf("a"), vocabulary: 2 });
    expect(run(only, [0, 0, 1])).toEqual({ steps: 3, code: EOS_CODE });
  });

  test("a table for 151,936 tokens is built in well under a second", () => {
    const words = Array.from({ length: 151_936 }, (_, i) => bytesOf(` ${i.toString(36)}`));
    const start = performance.now();
    const large = compileStops({
      stops: [bytesOf("</search>"), bytesOf("</answer>")],
      eosIds: [0],
      tokenBytes: (i) => words[i]!,
      vocabulary: words.length,
    });
    expect(performance.now() - start).toBeLessThan(10_000);
    expect(large.states).toBe(1 + 2 + 7 + 7 + 2 + 1);
  });

  test("empty and repeated stop strings, and an end-of-sequence id outside the vocabulary, are clear errors", () => {
    const base = { eosIds: [], tokenBytes: (): Uint8Array => bytesOf("a"), vocabulary: 2 };
    expect(() => compileStops({ ...base, stops: [bytesOf("")] })).toThrow(/stop string 0 is empty/);
    expect(() => compileStops({ ...base, stops: [bytesOf("a"), bytesOf("a")] })).toThrow(/stop strings 0 and 1 are the same/);
    expect(() => compileStops({ ...base, stops: [], eosIds: [2] })).toThrow(/expected an id below 2, got 2/);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { boundResult, parseDocuments, renderDocuments } from "../../src/search/documents.ts";
import { EndpointSearch } from "../../src/search/endpoint.ts";
import type { SearchDocument } from "../../src/search/search-engine.ts";
import { keepDocuments } from "../../src/search/simulation.ts";

/** What a simulator may write: heads in and out of place, blank lines, anything. */
const written = fc
  .array(fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("Doc 1: ", "\nDoc 2: ", "Doc", "Doc 12:", "\n\n", "\r\n", "\u2028", ":")))
  .map((parts) => parts.join(""));

describe("documents as text", () => {
  it("are rendered with numbers, a title before its text, one a line, and said to be none where there are none", () => {
    expect(renderDocuments({ documents: [{ title: "France", text: "Capital:\n Paris" }, { text: "Rome" }] })).toBe(
      "Doc 1: France Capital: Paris\nDoc 2: Rome",
    );
    expect(renderDocuments({ documents: [] })).toBe("No information available");
  });

  it("are a simulator's own text where it wrote one, whatever it is", () => {
    fc.assert(
      fc.property(written, (text) => {
        expect(renderDocuments({ documents: parseDocuments(text), text })).toBe(text);
      }),
    );
    expect(renderDocuments({ documents: [], text: "" })).toBe("");
  });

  it("are read back as they were rendered, title and text in one", () => {
    const one: fc.Arbitrary<SearchDocument> = fc.record(
      { text: written, title: fc.string({ unit: "binary" }) },
      { requiredKeys: ["text"] },
    );
    fc.assert(
      fc.property(fc.array(one, { maxLength: 12 }), (documents) => {
        const lines = documents.map(({ title, text }) => (title === undefined ? text : `${title} ${text}`).replace(/\s+/g, " ").trim());
        expect(parseDocuments(renderDocuments({ documents }))).toEqual(lines.map((text) => ({ text })));
      }),
    );
  });

  it("are read from what a simulator wrote, with text before the first and lines between, or none of its form", () => {
    expect(parseDocuments("Here they are:\nDoc 1: a\nmore of a\n\n Doc 2: b, see Doc 3: c")).toEqual([
      { text: "a\nmore of a" },
      { text: "b, see Doc 3: c" },
    ]);
    expect(parseDocuments(" Paris is in France. ")).toEqual([{ text: "Paris is in France." }]);
    expect(parseDocuments(" \n")).toEqual([]);
    expect(parseDocuments("Doc 1:")).toEqual([{ text: "" }]);
  });

  it("never keep a simulator's text from being shown as it was kept", async () => {
    const asked = { query: "x", question: "y", goldenAnswers: ["z"], key: { step: 1, question: 0, rollout: 0 }, turn: 0 };
    await fc.assert(
      fc.asyncProperty(written, async (text) => {
        const client = { complete: () => Promise.resolve(text) };
        const result = await new EndpointSearch({ client, seed: 1, noise: 0, documents: 3 }).simulate(asked);
        expect(renderDocuments(result)).toBe(keepDocuments(text, 3));
        expect(result.documents.every((document) => typeof document.text === "string")).toBe(true);
      }),
    );
  });
});

describe("a result that is too long", () => {
  const of = (...documents: SearchDocument[]) => ({ documents, kind: "real" as const });

  it("is cut from its end, and what is left out is counted", () => {
    const result = of({ title: "four", text: "x".repeat(10) }, { text: "y".repeat(10), url: "z" }, { text: "never" });
    // 1 and 14 for the first, 1 for the second: 4 are left.
    expect(boundResult(result, 20)).toEqual({
      result: of({ title: "four", text: "x".repeat(10) }, { text: "yyy", url: "z" }),
      leftOut: 12,
    });
  });

  it("keeps the title before a text that is too long, whatever comes first, and half of the room for the text after a title that is", () => {
    const [text, title] = ["x".repeat(1000), "y".repeat(1000)];
    expect(boundResult(of({ text, title: "Nile", url: "http://a" }), 101).result.documents).toEqual([
      { text: "x".repeat(88), title: "Nile", url: "http://a" },
    ]);
    expect(boundResult(of({ text: "short", title }), 101).result.documents).toEqual([{ text: "short", title: "y".repeat(50) }]);
    expect(boundResult(of({ text, title }), 2).result.documents).toEqual([{ text: "x" }]);
  });

  it("is a simulator's text as well", () => {
    const { result, leftOut } = boundResult({ documents: [{ text: "abcdef" }], text: "Doc 1: abcdef", kind: "useful" }, 9);
    expect(result).toEqual({ documents: [{ text: "abcdef" }], text: "Doc 1: ab", kind: "useful" });
    expect(leftOut).toBe(4);
  });

  it("is never cut inside a character", () => {
    expect(boundResult(of({ text: "a😀😀" }), 5).result.documents).toEqual([{ text: "a😀" }]);
    expect(boundResult(of({ text: "a😀😀" }), 4).result.documents).toEqual([{ text: "a😀" }]);
    expect(boundResult(of({ text: "a😀😀" }), 3).result.documents).toEqual([{ text: "a" }]);
  });

  it("may be a million empty documents", () => {
    const documents = new Array<SearchDocument>(1_000_000).fill({ text: "" });
    expect(boundResult({ documents, kind: "real" }, 100).result.documents).toHaveLength(100);
  });

  it("is as it was where it is not longer", () => {
    const result = of({ text: "abc", score: 1 }, { text: "d" });
    expect(boundResult(result, 6)).toEqual({ result, leftOut: 0 });
  });
});

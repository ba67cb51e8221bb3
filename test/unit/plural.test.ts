import { describe, expect, it } from "vitest";
import { counted, plural } from "../../src/util/plural.ts";

describe("a count in a message", () => {
  it("is of one passage or of so many, with thousands set apart, whatever the word's plural", () => {
    expect([0, 1, 2, 12_345].map((count) => counted(count, "passage"))).toEqual([
      "0 passages",
      "1 passage",
      "2 passages",
      "12,345 passages",
    ]);
    expect([1, 3].map((count) => counted(count, "search", "searches"))).toEqual(["1 search", "3 searches"]);
    expect([1, 1.5].map((count) => plural(count, "is", "are"))).toEqual(["is", "are"]);
  });
});

/** Tagged text as people see it, however it is cut into pieces. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TaggedText } from "../../src/log/tagged-text.ts";

const tags = ["think", "search", "information", "answer"];

function shown(pieces: readonly string[], names = tags): string {
  let text = "";
  const it = new TaggedText(names, (more) => (text += more));
  for (const piece of pieces) it.push(piece);
  it.flush();
  return text;
}

describe("tagged text", () => {
  const whole = "<think> Lille or Paris? 1 < 2. </think><search> capital of\nFrance </search> stray <answer> Paris</answer>";
  const lines = [
    "think      Lille or Paris? 1 < 2.",
    "search     capital of",
    "           France",
    "           stray",
    "answer     Paris",
    "",
  ].join("\n");

  it("is a line for each tag, and what stands outside of tags is shown too", () => {
    expect(shown([whole])).toBe(lines);
  });

  it("is the same in whatever pieces it comes", () => {
    const cuts = fc.array(fc.nat({ max: whole.length }), { maxLength: 12 });
    fc.assert(
      fc.property(cuts, (at) => {
        const ends = [...new Set([0, ...at, whole.length])].sort((a, b) => a - b);
        expect(shown(ends.slice(1).map((end, i) => whole.slice(ends[i], end)))).toBe(lines);
      }),
    );
  });

  it("is shown as it comes: not only at the end of its tag", () => {
    let text = "";
    const it = new TaggedText(tags, (more) => (text += more));
    it.push("<think> First find");
    expect(text).toBe("think      First find");
    it.push(" the country.</thi");
    expect(text).toBe("think      First find the country.");
  });

  it("shows documents as a block, what no tag is known of as it is, and commands nothing to the terminal", () => {
    let text = "";
    const it = new TaggedText(tags, (more) => (text += more));
    it.push("<think> begun");
    it.block("documents", "Doc 1: \u001b[2Jone\nDoc 2: two <answer>");
    expect(text).toBe("think      begun\ndocuments  Doc 1: [2Jone\n           Doc 2: two <answer>\n");
    expect(shown(["Paris <b>", "\u0007"], [])).toBe("           Paris <b>\n");
  });
});

import { describe, expect, it } from "vitest";
import { loadQuestions, parseQuestions } from "../../src/data/questions.ts";
import { DataError, FileError } from "../../src/util/errors.ts";

const row = (fields: object): string => JSON.stringify({ id: "1", question: "Why?", golden_answers: ["because"], ...fields });

describe("question files", () => {
  it("give questions in order, with what a row leaves out", () => {
    expect(
      parseQuestions(
        `\ufeff${row({ data_source: "nq", metadata: { hops: 2 }, ability: "ignored" })}\r\n\n${row({ id: 2, metadata: null })}\n`,
        "q.jsonl",
      ),
    ).toEqual([
      { id: "1", question: "Why?", goldenAnswers: ["because"], dataSource: "nq", metadata: { hops: 2 } },
      { id: "2", question: "Why?", goldenAnswers: ["because"], dataSource: "unknown" },
    ]);
  });

  it.each([
    ["", "q.jsonl: the question file is empty; expected at least one row, got none"],
    ["\n \n", "q.jsonl: the question file is empty; expected at least one row, got none"],
    [`${row({})}\n{"id": `, "q.jsonl:2: not JSON; expected one object a line, got "],
    ["[]", "q.jsonl:1: not a question row; expected an object, got []"],
    [row({ id: undefined }), "q.jsonl:1: wrong id; expected a text or a number, got nothing"],
    [row({ question: " " }), 'q.jsonl:1: wrong question; expected a text, got " "'],
    [
      row({ golden_answers: undefined }),
      "q.jsonl:1: a row without answers; expected golden_answers: a list of at least one text, got nothing",
    ],
    [row({ golden_answers: [] }), "q.jsonl:1: a row without answers; expected golden_answers: a list of at least one text, got []"],
    [row({ golden_answers: "Paris" }), "q.jsonl:1: a row without answers"],
    [row({ golden_answers: ["x", 3] }), "q.jsonl:1: wrong golden answer; expected a text, got 3"],
    [row({ data_source: 5 }), "q.jsonl:1: wrong data_source"],
    [row({ metadata: [] }), "q.jsonl:1: wrong metadata"],
    [`${row({})}\n\n${row({})}`, 'q.jsonl:3: duplicate id; expected an id that occurs once, got "1", also on line 1'],
  ])("are refused with the line: %j", (text, message) => {
    expect(() => parseQuestions(text, "q.jsonl")).toThrow(DataError);
    expect(() => parseQuestions(text, "q.jsonl")).toThrow(message);
  });

  it("that are missing are named", async () => {
    await expect(loadQuestions("/nowhere/q.jsonl")).rejects.toThrow(FileError);
    await expect(loadQuestions("/nowhere/q.jsonl")).rejects.toThrow("/nowhere/q.jsonl: cannot read the question file");
  });
});

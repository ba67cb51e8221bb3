/** Question sets as they are published: columns, ids, answers, several files. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dataSetOf } from "../../src/data/data-files.ts";
import { loadQuestions } from "../../src/data/questions.ts";
import { refuseSameFile, sharedQuestions } from "../../src/data/shared-questions.ts";
import type { Question } from "../../src/rl/trajectory.ts";
import { ConfigError, DataError, FileError } from "../../src/util/errors.ts";

const fixtures = join(import.meta.dirname, "../fixtures/data");
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-questions-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(rows: string | readonly object[], name = "q.jsonl"): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, typeof rows === "string" ? rows : rows.map((one) => JSON.stringify(one)).join("\n"));
  return path;
}

const row = (fields: object = {}) => ({ id: "1", question: "Why?", golden_answers: ["because"], ...fields });
const load = (...rows: object[]) => loadQuestions(file(rows));

describe("question files", () => {
  it("give questions in order, with what a row leaves out", async () => {
    expect(await load(row({ data_source: "nq", metadata: { hops: 2 }, ability: "ignored" }), row({ id: 2, metadata: null }))).toEqual([
      { id: "1", question: "Why?", goldenAnswers: ["because"], dataSource: "nq", metadata: { hops: 2 } },
      { id: "2", question: "Why?", goldenAnswers: ["because"], dataSource: "q" },
    ]);
  });

  it.each([
    ["NQ-open: a list in answer", { answer: ["14 December 1972 UTC", "December 1972"] }, ["14 December 1972 UTC", "December 1972"]],
    ["HotpotQA: a text in answer", { answer: "Animorphs" }, ["Animorphs"]],
    ["MuSiQue: other forms in answer_aliases", { answer: "Miquette", answer_aliases: ["M. Giraudy"] }, ["Miquette", "M. Giraudy"]],
    ["answers", { answers: ["a", "b"] }, ["a", "b"]],
    ["one golden answer as a text", { golden_answers: "Paris" }, ["Paris"]],
    ["verl: the reward's target", { reward_model: { ground_truth: { target: ["a"] }, style: "rule" } }, ["a"]],
    ["verl: the reward's ground truth", { reward_model: { ground_truth: "42" } }, ["42"]],
    ["the first column that has an answer", { golden_answers: [], answer: null, reward_model: { ground_truth: { target: ["a"] } } }, ["a"]],
  ])("may have the answers of %s", async (_, fields, goldenAnswers) => {
    expect((await load({ question: "Why?", ...fields }))[0]?.goldenAnswers).toEqual(goldenAnswers);
  });

  it("may be parquet as ZeroSearch and verl have it, with the question in extra_info or in the prompt", async () => {
    const published = await loadQuestions(join(fixtures, "zerosearch.parquet"));
    expect(published[1]).toEqual({
      id: "nq_1",
      question: "Which is the city number 1 of the fabled land?",
      goldenAnswers: ["Ville 1", "Città 1"],
      dataSource: "nq",
      metadata: { hops: 2, page: String(2n ** 60n + 1n) },
    });
    expect(published).toHaveLength(25);
    for (const name of ["verl", "verl-prompt"]) {
      const questions = await loadQuestions(join(fixtures, `${name}.parquet`));
      expect(questions.map(({ id, ...rest }) => [id, rest])).toEqual(
        published
          .slice(0, 3)
          .map(({ question, goldenAnswers }, i) => [`${name}-${i + 1}`, { question, goldenAnswers, dataSource: "searchR1_nq" }]),
      );
    }
  });

  it.each([
    ["no mark", [{ role: "user", content: "Answer: why?" }], "0 of them"],
    ["two marks", [{ role: "user", content: "Question: a? Question: b?" }], "2 of them"],
    ["no user", [{ role: "system", content: "Question: a?" }], '[{"role":"system"'],
  ])("whose prompt has %s for the question are refused", async (_, prompt, got) => {
    await expect(load({ prompt, answer: "x" })).rejects.toThrow(
      /q\.jsonl:1: the row has no question, and none can be told from its prompt; expected question, extra_info\.question, or one "Question:"/,
    );
    await expect(load({ prompt, answer: "x" })).rejects.toThrow(got);
  });

  it("call rows without an id by file and number, the same whatever stands in other files", async () => {
    const one = file([{ question: "a?", answer: "x" }, row({ id: null })], "nq/test.jsonl");
    const two = file([{ question: "c?", answer: "x" }], "hotpotqa/test.jsonl");
    const questions = await loadQuestions([one, two]);
    expect(questions.map(({ dataSource, id }) => `${dataSource} ${id}`)).toEqual(["nq test-1", "nq test-2", "hotpotqa test-1"]);
    expect(await loadQuestions(two)).toEqual(questions.slice(2));
  });

  it("may have one id in two data sets, as FlashRAG's have, and not twice in one", async () => {
    const sets = ["nq/test.jsonl", "triviaqa/test.jsonl", "bamboogle/test.jsonl"].map((name) => file([row({ id: "test_0" })], name));
    expect((await loadQuestions(sets)).map(({ dataSource }) => dataSource)).toEqual(["nq", "triviaqa", "bamboogle"]);
    expect(await load(row({ data_source: "a" }), row({ data_source: "b" }))).toHaveLength(2);
    await expect(load(row({ data_source: "a" }), row({ id: 1, data_source: "a" }))).rejects.toThrow(
      /q\.jsonl:2: duplicate id; expected an id that occurs once, got "1", also in .*q\.jsonl:1$/,
    );
    await expect(loadQuestions([sets[0]!, sets[0]!])).rejects.toThrow("duplicate id");
  });

  it("lose a bad alias, and say how many; a row without any good answer is an error", async () => {
    const notes: string[] = [];
    const path = file([row({ golden_answers: ["a", "", 3] }), row({ id: 2, golden_answers: [" ", "b", "x".repeat(2 ** 20 + 1)] })]);
    const questions = await loadQuestions(path, { onNote: (note) => notes.push(note) });
    expect(questions.map(({ goldenAnswers }) => goldenAnswers)).toEqual([["a"], ["b"]]);
    expect(notes).toEqual([`${path}: 4 golden answers are empty or no text, and left out (${path}:1: "")`]);
    await expect(load(row(), row({ id: 2, golden_answers: ["", 3] }))).rejects.toThrow(
      /q\.jsonl:2: a row without answers; expected golden_answers: a list of at least one text \(or answers, answer, reward_model\.ground_truth\.target\), got \["",3\]/,
    );
  });

  it("lose metadata that is whole documents, and say so", async () => {
    const notes: string[] = [];
    const context = { sentences: ["x".repeat(5000)] };
    const path = file([row({ metadata: { hops: 1 } }), row({ id: 2, metadata: context })]);
    const questions = await loadQuestions(path, { onNote: (note) => notes.push(note) });
    expect(questions.map(({ metadata }) => metadata)).toEqual([{ hops: 1 }, undefined]);
    expect(notes).toEqual([`${path}: metadata of 1 row is larger than 4 KiB, and left out`]);
  });

  it.each([
    ["", "q.jsonl: the question file is empty; expected at least one row, got none"],
    ["\n \n", "q.jsonl: the question file is empty; expected at least one row, got none"],
    [`${JSON.stringify(row())}\n{"id": `, "q.jsonl:2: not JSON; expected one object a line, got "],
    ["[[]]", "q.jsonl:1 (row 1): not a question row; expected an object, got []"],
    [[row({ id: {} })], "q.jsonl:1: wrong id; expected a text or a number, got {}"],
    [[row({ question: " " })], 'q.jsonl:1: wrong question; expected a text, got " "'],
    [[row({ question: undefined })], "q.jsonl:1: wrong question; expected a text, got nothing"],
    [[row({ golden_answers: undefined })], "q.jsonl:1: a row without answers; expected golden_answers: a list of at least one text"],
    [[row({ golden_answers: '["a", "b"]' })], "q.jsonl:1: golden_answers is a list written as a text; expected a list of texts"],
    [[row({ data_source: 5 })], "q.jsonl:1: wrong data_source"],
    [[row({ metadata: [] })], "q.jsonl:1: wrong metadata"],
    [[row({ question: "x".repeat(2 ** 20 + 1) })], "q.jsonl:1: the question is too long; expected at most 1048576 bytes, got 1048577"],
  ])("are refused with the line: %#", async (content, message) => {
    const path = file(content);
    await expect(loadQuestions(path)).rejects.toThrow(DataError);
    await expect(loadQuestions(path)).rejects.toThrow(`${folder}/${message}`);
  });

  it("of other columns are refused with what they have, and so is a question of a megabyte in parquet", async () => {
    await expect(loadQuestions(join(fixtures, "other-columns.parquet"))).rejects.toThrow(
      "other-columns.parquet: has no column of questions; expected question, or a prompt, got query, label",
    );
    await expect(loadQuestions(join(fixtures, "long.parquet"))).rejects.toThrow("long.parquet (row 1): the question is too long");
  });

  it("nested deeper than the stack are an error as others, or read", async () => {
    const deep = "[".repeat(200_000) + "]".repeat(200_000);
    await expect(loadQuestions(file(`{"question": ${deep}}`))).rejects.toThrow(DataError);
    expect(await loadQuestions(file(`{"question": "a?", "answer": "b", "metadata": {"x": ${deep}}}`))).toHaveLength(1);
  });

  it("that are missing are named", async () => {
    await expect(loadQuestions("/nowhere/q.jsonl")).rejects.toThrow(FileError);
    await expect(loadQuestions("/nowhere/q.jsonl")).rejects.toThrow("/nowhere/q.jsonl: cannot read the question file");
  });

  it.each([
    ["nq/test.jsonl", "nq"],
    ["/data/FlashRAG/2wikimultihopqa/dev.jsonl.gz", "2wikimultihopqa"],
    ["bamboogle.parquet", "bamboogle"],
    ["nq_test.jsonl", "nq_test"],
    ["mine/data/train-00000-of-00002.parquet", "mine"],
    ["train.jsonl", "train"],
    [`/c/hub/datasets--o--ZeroSearch_dataset/snapshots/${"a".repeat(40)}/train.parquet`, "ZeroSearch_dataset"],
    [`/c/hub/datasets--o--FlashRAG_datasets/snapshots/${"a".repeat(40)}/nq/test.jsonl`, "nq"],
  ])("belong to a data set that their path names: %s", (path, name) => {
    expect(dataSetOf(path)).toBe(name);
  });
});

describe("questions of two sets", () => {
  const set = (...texts: string[]): Question[] =>
    texts.map((question, i) => ({ id: `${i}`, question, goldenAnswers: ["x"], dataSource: "d" }));

  it("that are the same but for case, spaces and the mark at the end are counted, for each two sets", () => {
    expect(
      sharedQuestions({
        "data.train": set("Who wrote  Faust?", "a?", "b?"),
        "data.validation": set("who wrote faust", "c?"),
        "data.test": set("A ?", "B", "who wrote 'Faust'?", "Who is it?"),
      }),
    ).toEqual([
      '1 of the 2 questions of data.validation is in data.train as well, such as "who wrote faust"',
      '2 of the 4 questions of data.test are in data.train as well, such as "A ?"',
    ]);
    expect(sharedQuestions({ "data.train": set("-5 or 5?"), "data.test": set("5 or 5?"), "data.validation": [] })).toEqual([]);
  });

  it("may not be of one file, by whatever name", () => {
    const path = file([row()]);
    const link = join(folder, "link.jsonl");
    symlinkSync(path, link);
    expect(() => refuseSameFile({ "data.train": ["/nowhere", path], "data.validation": null, "data.test": link })).toThrow(ConfigError);
    expect(() => refuseSameFile({ "data.train": path, "data.test": link })).toThrow(
      /^data\.test: has the same file as data\.train; expected other questions than those, got .*q\.jsonl\n {2}data\.allowSameFile=true allows it/,
    );
    refuseSameFile({ "data.train": ["/nowhere", path], "data.test": "/elsewhere" });
  });
});

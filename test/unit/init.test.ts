import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { main } from "../../src/commands/init.ts";
import { findAnswers, Left, type Answers } from "../../src/commands/init/answers.ts";
import { ConfigFile } from "../../src/commands/init/config-file.ts";
import { exampleCorpus, exampleQuestions, questionRows, shareOut } from "../../src/commands/init/data-files.ts";
import { packageFolder, readYaml, resolveConfig } from "../../src/config/index.ts";
import { loadQuestions } from "../../src/data/questions.ts";
import { Bm25Search } from "../../src/search/bm25.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-init-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const defaults: Answers = { questions: "", corpus: "", model: "Qwen/Qwen2.5-0.5B-Instruct", simulator: "same", "gpu-memory": "8" };
const data = { train: "x/train.jsonl", validation: "x/validation.jsonl", test: "x/test.jsonl", corpus: "x/corpus.jsonl" };
const project = (answers: Partial<Answers>, more: object = {}) =>
  new ConfigFile({ name: "mine", file: "x/zerosearch.yaml", answers: { ...defaults, ...answers }, data, trainingQuestions: 50, ...more });

describe("the configuration that zerosearch init writes", () => {
  it("is the preset with the answers in it, resolves, and says of every value why it is so", () => {
    const file = project({ "gpu-memory": "12" });
    const preset = resolveConfig(readYaml(join(packageFolder, "configs", "qwen2.5-0.5b-lora.yaml")));
    expect(file.config()).toEqual({
      ...preset,
      name: "mine",
      device: { ...preset.device, memoryGiB: 12 },
      data: { ...preset.data, ...data },
    });
    const lines = file.text.split("\n");
    expect(lines.filter((line) => /^ +\w+: \S/.test(line) && !line.includes(" # "))).toEqual([]);
    expect(file.text.match(/zerosearch init/g)).toHaveLength(1);
  });

  it("names the simulator: a server, a model prompted, or one that was tuned and knows the paper's prompt", () => {
    expect(project({ simulator: "http://127.0.0.1:1/v1" }).config().simulator).toMatchObject({
      path: null,
      endpoint: "http://127.0.0.1:1/v1",
      prompt: "prompted",
    });
    expect(project({ simulator: "Qwen/Qwen2.5-3B-Instruct" }).config().simulator).toMatchObject({
      path: "Qwen/Qwen2.5-3B-Instruct",
      prompt: "prompted",
    });
    expect(project({ simulator: "some/Simulation_LLM_google_3B" }).config().simulator.prompt).toBe("paper");
  });

  it("computes on the CPU without a GPU, asks no more questions than there are, and judges by the simulator without a corpus", () => {
    const config = project({ "gpu-memory": "0" }, { trainingQuestions: 3, data: { ...data, corpus: null } }).config();
    expect(config.device.kind).toBe("cpu");
    expect(config.train.questionsPerStep).toBe(3);
    expect([config.evaluation.engine, config.data.corpus]).toEqual(["simulated", null]);
  });
});

describe("the data that zerosearch init writes", () => {
  const question = (i: number, text = `What is ${i}?`) => ({ id: String(i), question: text, goldenAnswers: [String(i)], dataSource: "d" });

  it("shares every question out once, those that ask the same to the same part, and always alike", () => {
    const rows = Array.from({ length: 60 }, (_, i) => question(i, i % 2 === 0 ? `What is ${i}?` : `  what is ${i - 1}? `));
    const shared = shareOut(rows, "f");
    expect(shared).toEqual(shareOut(rows, "f"));
    const all = Object.values(shared).flat();
    expect(all.map(({ id }) => Number(id)).sort((a, b) => a - b)).toEqual(rows.map((_, i) => i));
    expect([shared.train.length, shared.validation.length, shared.test.length]).toEqual([42, 6, 12]);
    const texts = Object.values(shared).map((part) => new Set(part.map((one) => one.question.trim().toLowerCase())));
    expect(new Set(texts.flatMap((part) => [...part])).size).toBe(texts.reduce((sum, { size }) => sum + size, 0));
  });

  it("keeps at most 100 and 300 from training, at least one, and refuses fewer than three questions", () => {
    const many = shareOut(
      Array.from({ length: 5000 }, (_, i) => question(i)),
      "f",
    );
    expect([many.validation.length, many.test.length]).toEqual([100, 300]);
    const few = shareOut(
      [1, 2, 3].map((i) => question(i)),
      "f",
    );
    expect(Object.values(few).map(({ length }) => length)).toEqual([1, 1, 1]);
    expect(() =>
      shareOut(
        [1, 1, 2].map((i) => question(i)),
        "f",
      ),
    ).toThrow("f: too few questions");
  });

  it("writes rows that the loader reads back, and examples that their passages answer", async () => {
    const parts = exampleQuestions();
    const bm25 = await Bm25Search.inMemory(
      exampleCorpus()
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as never),
      1,
    );
    for (const [part, questions] of Object.entries(parts)) {
      expect(questions).toHaveLength(3);
      const file = join(folder, `${part}.jsonl`);
      writeFileSync(file, questionRows(questions));
      expect(await loadQuestions(file)).toEqual(questions);
      for (const { question: text, goldenAnswers } of questions) {
        const [best] = await bm25.find(text);
        expect(best!.text.toLowerCase()).toContain(goldenAnswers[0]!.toLowerCase());
      }
    }
    await bm25.close();
  });
});

describe("what zerosearch init asks", () => {
  /** Types lines one by one, as a person does. */
  function terminal(lines: readonly string[]) {
    const input = Object.assign(new PassThrough(), { isTTY: true });
    const output = new PassThrough();
    const asked: string[] = [];
    const left = [...lines];
    output.setEncoding("utf8").on("data", (text: string) => {
      asked.push(text);
      if (!text.endsWith(": ")) return;
      const next = left.shift();
      if (next === undefined) input.end();
      else input.write(`${next}\n`);
    });
    return { input, output, asked };
  }
  const options = (given: Record<string, string> = {}) => ({ options: new Map(Object.entries(given)) });

  it("is every question that no option answers, with its default, and again where an answer is wrong", async () => {
    const streams = terminal(["nowhere.jsonl", "", "", "not a model", "", "http://127.0.0.1:1/v1"]);
    expect(await findAnswers(options({ "gpu-memory": "24" }), streams)).toEqual({
      ...defaults,
      simulator: "http://127.0.0.1:1/v1",
      "gpu-memory": "24",
    });
    const text = streams.asked.join("");
    expect(text).toContain("nowhere.jsonl is not that; expected a file");
    expect(text).toContain("[Qwen/Qwen2.5-0.5B-Instruct]: ");
    expect(text).not.toContain("Memory");
  });

  it("is nothing with --yes, nothing where no terminal is, which is an error, and a wrong option is one too", async () => {
    const nobody = { input: new PassThrough(), output: new PassThrough() };
    expect(await findAnswers(options({ yes: "" }), nobody)).toEqual(defaults);
    await expect(findAnswers(options(), nobody)).rejects.toThrow("there is no terminal to ask on; expected --yes");
    await expect(findAnswers(options({ yes: "", "gpu-memory": "-1" }), nobody)).rejects.toThrow("--gpu-memory: wrong value");
    await expect(findAnswers(options({ yes: "", questions: "nowhere" }), nobody)).rejects.toThrow("--questions: wrong value");
  });

  it("ends when the person leaves", async () => {
    await expect(findAnswers(options(), terminal(["", ""]))).rejects.toThrow(Left);
  });
});

describe("zerosearch init", () => {
  it("writes over nothing without --force, and never over the questions it was given", async () => {
    const said = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    const cache = vi.stubEnv("HF_HUB_CACHE", join(folder, "empty-cache"));
    try {
      const at = join(folder, "agent");
      await main([at, "--yes"]);
      expect(said.mock.calls.map(([text]) => String(text)).join("")).toMatch(
        /\nNext:\n {2}npx zerosearch download Qwen\/Qwen2.5-0.5B-Instruct\n {2}npx zerosearch train --config \S+\/zerosearch.yaml --dry-run\n {2}npx zerosearch train --config \S+\/zerosearch.yaml\n$/,
      );
      const train = join(at, "data", "train.jsonl");
      writeFileSync(train, questionRows([{ id: "1", question: "Mine?", goldenAnswers: ["a"], dataSource: "d" }]));
      await expect(main([at, "--yes"])).rejects.toThrow("are there already; expected a folder without them, or --force");
      await expect(main([at, "--yes", "--force", "--questions", train])).rejects.toThrow("would be written over by a part of itself");
      expect(readFileSync(train, "utf8")).toContain("Mine?");
      await main([at, "--yes", "--force"]);
      expect(readFileSync(train, "utf8")).toBe(questionRows(exampleQuestions().train));
    } finally {
      said.mockRestore();
      cache.unstubAllEnvs();
    }
  });
});

/** Receipts of whole runs: the same on any number of threads and however a run was interrupted; every changed input is named. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTokenizer } from "../../src/setup/open-model.ts";
import { buildIfStale, readRows, settingsFor, shortRun, start, train, type Ended } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
let receipt: string;

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-receipt-"));
  models = join(folder, "models");
  cpSync(await tinyQuickstart(), models, { recursive: true });
  const { code, stderr } = await train([
    ...shortRun,
    ...settingsFor(models, folder),
    "name=given",
    "device.threads=2",
    "train.saveEvery=2",
  ]);
  expect([code, stderr]).toEqual([0, ""]);
  receipt = join(folder, "runs", "given", "receipt.json");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function reproduce(...args: string[]): Promise<Ended> {
  return start(process.execPath, [join(root, "bin", "zerosearch.js"), "reproduce", ...args]);
}

const last = ({ stdout }: Ended): string => stdout.trimEnd().split("\n").at(-1) ?? "";

describe("reproduce", () => {
  it("says the same, on another number of threads", async () => {
    const ended = await reproduce(receipt, "device.threads=1");
    expect([ended.code, ended.stderr]).toEqual([0, ""]);
    expect(last(ended)).toMatch(/^the same: 5 of 5 steps, the weights of [34] saved states and the evaluation$/);
  });

  it("says the same of the first steps alone", async () => {
    const ended = await reproduce(receipt, "--steps", "2");
    expect([ended.code, last(ended)]).toEqual([0, "the same: 2 of 5 steps, the weights of 1 saved state"]);
  });

  it("names the first step that differs, and exits with 1", async () => {
    const edited = join(folder, "edited.json");
    const text = readFileSync(receipt, "utf8");
    const row = /"3 [0-9a-f]{12} ([0-9a-f]{12}) /.exec(text)!;
    writeFileSync(edited, text.replace(row[0], row[0].replace(row[1]!, "0123456789ab")));
    const ended = await reproduce(edited);
    expect([ended.code, last(ended)]).toEqual([1, "not the same: rewards of step 3"]);
  });

  it.each([
    ["model.policy/config.json", "policy/config.json"],
    ["model.policy/model.safetensors", "policy/model.safetensors"],
    ["model.policy/tokenizer.json", "policy/tokenizer.json"],
    ["model.policy/tokenizer_config.json", "policy/tokenizer_config.json"],
    ["simulator.path/config.json", "simulator/config.json"],
    ["simulator.path/model.safetensors", "simulator/model.safetensors"],
    ["data.train", "world/train.jsonl"],
    ["data.validation", "world/validation.jsonl"],
    ["data.test", "world/test.jsonl"],
    ["data.corpus", "world/corpus.jsonl"],
  ])("names %s where one byte of it has changed", async (name, path) => {
    const file = join(models, path);
    const bytes = readFileSync(file);
    const changed = Buffer.from(bytes);
    changed[bytes.length >> 1]! ^= 1;
    writeFileSync(file, changed);
    try {
      const ended = await reproduce(receipt);
      expect([ended.code, last(ended)]).toEqual([
        1,
        `not the same: other inputs than the receipt's: ${name}; --anyway runs it all the same`,
      ]);
    } finally {
      writeFileSync(file, bytes);
    }
  });

  it("runs with other data where it is told to, and names the first step that it matters in", async () => {
    const file = join(models, "world", "corpus.jsonl");
    const bytes = readFileSync(file);
    writeFileSync(file, Buffer.concat([bytes, Buffer.from(`${JSON.stringify({ id: "more", text: "one passage more" })}\n`)]));
    try {
      // The corpus is searched in validations only: no step differs.
      const ended = await reproduce(receipt, "--anyway", "--steps", "2");
      expect(ended.code).toBe(1);
      expect(last(ended)).toMatch(/^not the same: other inputs than the receipt's: data\.corpus; the same: 2 of 5 steps/);
    } finally {
      writeFileSync(file, bytes);
    }
  });
});

describe("the receipt of a run with parts of the user's own", () => {
  const parts = {
    "reward.kind": "export default function thrifty({ ids }) {\n  return 1 / ids.length;\n}\n",
    "search.engine": "export default { async search() { return { documents: [{ text: 'nothing' }] }; }, async close() {} };\n",
    "rollout.method":
      "export default { name: 'mine', run: (question, { engine, ...context }) => dialectOf(question, { ...context, engine }) };\n",
  };

  it("names them, hashes their files, and is reproduced; a file that has changed is named", async () => {
    const { href } = pathToFileURL(join(root, "dist", "index.js"));
    const own = Object.entries(parts).map(([key, text]) => {
      const file = join(folder, `${key.replace(".", "-")}.mjs`);
      writeFileSync(
        file,
        key === "rollout.method" ? `import { methods } from "${href}";\nconst dialectOf = methods.zerosearch.run;\n${text}` : text,
      );
      return `${key}=${file}`;
    });
    const short = ["train.steps=2", "train.validateEvery=0", "data.test=null", "simulator.path=null"];
    const trained = await train([...shortRun, ...settingsFor(models, folder), "name=parts", ...short, ...own]);
    expect([trained.code, trained.stderr]).toEqual([0, ""]);
    const file = join(folder, "runs", "parts", "receipt.json");
    const { made, inputs } = JSON.parse(readFileSync(file, "utf8")) as { made: object; inputs: object };
    expect(made).toEqual({ method: "mine", engine: "search-engine", reward: "thrifty" });
    expect(Object.keys(inputs)).toEqual(expect.arrayContaining(Object.keys(parts)));
    const ended = await reproduce(file);
    expect([ended.code, last(ended)]).toEqual([0, "the same: 2 of 2 steps, the weights of 2 saved states"]);
    writeFileSync(join(folder, "reward-kind.mjs"), parts["reward.kind"].replace("1 /", "2 /"));
    expect(last(await reproduce(file))).toMatch(/^not the same: other inputs than the receipt's: reward\.kind;/);
  });

  it("is not waited for where an engine never answers: the run ends with an error that names it, not in silence", async () => {
    const file = join(folder, "stuck.mjs");
    writeFileSync(file, "export default { name: 'stuck', search: () => new Promise(() => {}), async close() {} };\n");
    const asks = join(folder, "asks.mjs");
    const { href } = pathToFileURL(join(root, "dist", "index.js"));
    writeFileSync(asks, `import { methods } from "${href}";\nexport default { name: "asks", run: methods.rag.run };\n`);
    const short = [
      "data.test=null",
      "data.validation=null",
      "simulator.path=null",
      "rollout.prompt=paper",
      "rollout.maxContextTokens=1000",
    ];
    const args = [...shortRun, ...settingsFor(models, folder), "name=stuck", ...short, `search.engine=${file}`, `rollout.method=${asks}`];
    const { code, stderr } = await train(args);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^search engine stuck: never answers: nothing is left to do that could settle its promise$/m);
  });
});

describe("the receipt of a run that was stopped and resumed", () => {
  it("is the same where it was stopped by Ctrl-C between two saves", async () => {
    const args = [...shortRun, ...settingsFor(models, folder), "train.saveEvery=0", "train.validateEvery=0", "name=interrupted"];
    const stopped = await train(args, {
      onOutput: (stdout, kill) => {
        if (/^step 2\/5/m.test(stdout)) kill("SIGINT");
      },
    });
    expect(stopped.code).toBe(130);
    const resumed = await train([...settingsFor(models, folder).slice(-2), "--resume", "interrupted"]);
    expect(resumed.code).toBe(0);
    const ended = await reproduce(join(folder, "runs", "interrupted", "receipt.json"));
    expect([ended.code, last(ended)]).toEqual([0, "the same: 5 of 5 steps, the weights of 1 saved state and the evaluation"]);
  });

  it("is that of a run that was not, but for its name and folders", async () => {
    const args = [...shortRun, ...settingsFor(models, folder), "train.saveEvery=2", "name=stopped"];
    const stopped = await train(args, {
      onOutput: (stdout, kill) => {
        if (/^step 3\/5/m.test(stdout)) kill("SIGKILL");
      },
    });
    expect(stopped.signal).toBe("SIGKILL");
    const resumed = await train([...settingsFor(models, folder).slice(-2), "--resume", "stopped"]);
    expect([resumed.code, resumed.stderr]).toEqual([0, ""]);
    const read = (name: string): Record<string, unknown> => JSON.parse(readFileSync(join(folder, "runs", name, "receipt.json"), "utf8"));
    const [whole, other] = [read("given"), read("stopped")];
    for (const part of ["steps", "saves", "scores", "blockSteps"]) expect(other[part], part).toEqual(whole[part]);
  });
});

interface Rollout {
  readonly ids: readonly number[];
  readonly promptLength: number;
  readonly question: { readonly question: string };
}

describe("a run through a chat template of the user's own", () => {
  it("asks its policy through it, hashes it, and goes on with no other", async () => {
    const file = join(folder, "mine.jinja");
    const template = "{% for message in messages %}[{{ message.role }}] {{ message.content }}{{ eos_token }}{% endfor %}[assistant] ";
    writeFileSync(file, template);
    const short = ["train.steps=2", "train.validateEvery=0", "data.test=null", `model.chatTemplate=${file}`];
    const trained = await train([...shortRun, ...settingsFor(models, folder), "name=templated", ...short]);
    expect([trained.code, trained.stderr]).toEqual([0, ""]);
    expect(trained.stdout).toContain(`prompts: the chat template ${file}; ends at <|eos|>`);
    const [row] = readRows(join(folder, "runs", "templated", "rollouts.jsonl")) as unknown as Rollout[];
    const { ids = [], promptLength, question } = row ?? {};
    expect((await openTokenizer(join(models, "policy"))).decode(ids.slice(0, promptLength))).toBe(
      `[user] Question: ${question?.question}\n<|eos|>[assistant] `,
    );
    const { inputs } = JSON.parse(readFileSync(join(folder, "runs", "templated", "receipt.json"), "utf8")) as { inputs: object };
    expect(inputs).toHaveProperty(["model.chatTemplate"]);

    const other = join(folder, "other.jinja");
    writeFileSync(other, template.replace("[assistant] ", "[assistant]\n"));
    const places = settingsFor(models, folder).filter((one) => one.startsWith("output."));
    const refused = await train(["--resume", "templated", ...places, "train.steps=3", `model.chatTemplate=${other}`]);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining("model.chatTemplate: the file of this run's chat template has changed since the state was saved"),
    ]);
    const gone = await train(["--resume", "templated", ...places, "train.steps=3", "model.chatTemplate=null"]);
    expect([gone.code, gone.stderr]).toEqual([1, expect.stringContaining("got no such file")]);
    const resumed = await train(["--resume", "templated", ...places, "train.steps=3"]);
    expect(resumed.code).toBe(0);
  });
});

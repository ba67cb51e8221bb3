/** Question sets by name: where each is found, what is refused, and which rows are the paper's. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readOverride } from "../../src/config/source.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { namedSet, namedSets, rowsKept } from "../../src/data/named-sets.ts";
import { openSets, readSubset, type OpenSetsOptions, type OpenedSet } from "../../src/setup/open-sets.ts";
import { startHubServer, type HubServer } from "../helpers/hub-server.ts";
import { messageOf } from "../helpers/message-of.ts";

const shared = join(import.meta.dirname, "../../../shared/data/qa");
const commit = "0123456789".repeat(4);

let hub: HubServer;
let folder: string;
let said: string[];
beforeAll(async () => {
  hub = await startHubServer({});
});
afterAll(() => hub.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-sets-"));
  said = [];
  hub.requests.length = 0;
  hub.repos.clear();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const rows = (count: number, dataSource?: string): string =>
  Array.from({ length: count }, (_, i) => {
    const of = dataSource === undefined ? {} : { data_source: dataSource };
    return `${JSON.stringify({ id: `q${i}`, question: `Question ${i}?`, golden_answers: [`a${i}`], ...of })}\n`;
  }).join("");

function open(names: string, settings: readonly string[] = [], options: Partial<OpenSetsOptions> = {}): Promise<OpenedSet[]> {
  const config = resolveConfig(["model.policy=m", "data.corpus=c", ...settings].map(readOverride), "evaluate");
  const env = { HF_HOME: join(folder, "hf"), HF_ENDPOINT: hub.url };
  return openSets(names, config, { subset: null, limit: null, say: (line) => said.push(line), env, ...options });
}

describe("the table of sets", () => {
  it("knows each by the names that others give it", () => {
    expect(
      ["2wikimultihopqa", "2Wiki", "HotpotQA", "hotpot_qa", "natural-questions", "MuSiQue"].map((name) => namedSet(name)?.name),
    ).toEqual(["2wiki", "2wiki", "hotpotqa", "hotpotqa", "nq", "musique"]);
    expect(namedSet("squad")).toBeUndefined();
  });

  it("keeps 3,072 of the paper's 3,125 rows, 72 of Bamboogle's 125: what 48 batches of 64 hold", () => {
    expect(namedSets.reduce((sum, { paperRows }) => sum + paperRows, 0)).toBe(3125);
    expect(namedSets.reduce((sum, one) => sum + rowsKept(one), 0)).toBe(48 * 64);
    expect(namedSets.map(rowsKept)).toEqual([500, 500, 500, 500, 500, 500, 72]);
  });
});

describe("openSets", () => {
  it("finds sets in a folder, side by side or in folders of their own, packed or not", async () => {
    mkdirSync(join(folder, "hotpotqa"));
    writeFileSync(join(folder, "nq_test.jsonl"), rows(3, "nq"));
    writeFileSync(join(folder, "hotpotqa", "dev.jsonl.gz"), gzipSync(rows(2)));
    writeFileSync(join(folder, "hotpotqa", "train.jsonl"), rows(9));
    const sets = await open("nq, hotpot", [`evaluation.setsFolder=${folder}`]);
    expect(sets.map(({ name, title, group, questions }) => [name, title, group, questions.length])).toEqual([
      ["nq", "NQ", "single-hop", 3],
      ["hotpotqa", "HotpotQA", "multi-hop", 2],
    ]);
    expect(sets[1]?.questions[0]).toMatchObject({ id: "q0", dataSource: "hotpotqa" });
    expect(said).toEqual([
      `nq: 3 questions of ${join(folder, "nq_test.jsonl")} (all rows)`,
      `hotpotqa: 2 questions of ${join(folder, "hotpotqa", "dev.jsonl.gz")} (all rows)`,
      "2 sets: 5 questions",
    ]);
  });

  it("takes the rows of data.test that are of the set, under whichever of its names", async () => {
    writeFileSync(join(folder, "all.jsonl"), rows(2, "nq") + rows(3, "2wikimultihopqa") + rows(1, "mine"));
    const sets = await open("2wiki,mine", [`data.test=${join(folder, "all.jsonl")}`]);
    expect(sets.map(({ name, questions }) => [name, questions.length])).toEqual([
      ["2wiki", 3],
      ["mine", 1],
    ]);
    expect(sets[0]?.questions[0]?.dataSource).toBe("2wiki");
  });

  it("fetches what is nowhere else from the Hub, says the commit, and asks for it once", async () => {
    hub.repos.set("datasets/RUC-NLPIR/FlashRAG_datasets", { commit, files: { "popqa/test.jsonl": rows(4) } });
    const [popqa] = await open("popqa");
    expect(popqa?.questions.length).toBe(4);
    expect(popqa?.source).toBe(`hf://datasets/RUC-NLPIR/FlashRAG_datasets/popqa/test.jsonl@${commit}`);
    expect(said.at(-1)).toContain(commit);
    hub.repos.clear();
    expect((await open("popqa"))[0]?.questions).toEqual(popqa?.questions);
  });

  it("takes files of one's own by name=file", async () => {
    writeFileSync(join(folder, "mine.jsonl"), rows(2, "anything"));
    const [set] = await open(`my=${join(folder, "mine.jsonl")}`);
    expect([set?.name, set?.group, set?.questions.map(({ dataSource }) => dataSource)]).toEqual(["my", null, ["my", "my"]]);
    expect(await messageOf(open("my=./nowhere.jsonl"))).toContain("--sets: there is no file ./nowhere.jsonl");
  });

  it("refuses a set whose rows are another's, and names both", async () => {
    writeFileSync(join(folder, "nq_test.jsonl"), rows(2, "popqa"));
    const expected = "holds rows of another set; expected data_source nq, or none that is known, got 2 of 2 of popqa, such as q0";
    expect(await messageOf(open("nq", [`evaluation.setsFolder=${folder}`]))).toContain(expected);
    expect(await messageOf(open(`nq=${join(folder, "nq_test.jsonl")}`))).toContain(expected);
  });

  it("refuses an unknown name with the nearest one, a set twice and an empty name", async () => {
    expect(await messageOf(open("hotpoqa"))).toMatch(/--sets hotpoqa: there is no such set; expected nq, .*\n {2}did you mean hotpotqa\?/);
    writeFileSync(join(folder, "nq_test.jsonl"), rows(2, "nq"));
    expect(await messageOf(open("nq,natural_questions", [`evaluation.setsFolder=${folder}`]))).toContain("nq is there twice");
    expect(await messageOf(open("nq,,popqa", [`evaluation.setsFolder=${folder}`]))).toContain("has an empty name");
    expect(await messageOf(open("nq", ["evaluation.setsFolder=nowhere"]))).toContain("evaluation.setsFolder=nowhere: cannot be read");
  });

  it("cuts to the paper's rows and says what differs", async () => {
    writeFileSync(join(folder, "nq_test.jsonl"), rows(600, "nq"));
    writeFileSync(join(folder, "bamboogle_test.jsonl"), rows(125, "bamboogle"));
    const settings = [`evaluation.setsFolder=${folder}`];
    const paper = await open("nq,bamboogle", settings, { subset: "paper" });
    expect(paper.map(({ questions }) => questions.length)).toEqual([500, 125]);
    expect(said[0]).toContain(
      "the first 500 of 600; the paper's own 500 are those of hf://datasets/sunhaonlp/ZeroSearch_dataset/test.parquet",
    );
    expect(said[1]).toContain("the paper's number of rows, 125");
    said = [];
    const dropped = await open("nq,bamboogle", settings, { subset: "paper-dropped" });
    expect(dropped.map(({ questions }) => questions.length)).toEqual([500, 72]);
    expect(said[0]).toContain("none of them was dropped");
    expect(said[1]).toContain("of these the first 72, as the paper's loader dropped the others with its last batch");
    expect((await open("nq", settings, { limit: 10 })).map(({ questions }) => questions.length)).toEqual([10]);
  });

  it("takes the paper's rows from its own file where the set is not at hand", async () => {
    const fixture = readFileSync(join(import.meta.dirname, "../fixtures/data/zerosearch.parquet"));
    hub.repos.set("datasets/sunhaonlp/ZeroSearch_dataset", { commit, files: { "test.parquet": fixture }, large: () => true });
    const [nq] = await open("nq", [], { subset: "paper" });
    expect(nq?.questions.every(({ dataSource }) => dataSource === "nq")).toBe(true);
    expect(nq?.source).toBe(`hf://datasets/sunhaonlp/ZeroSearch_dataset/test.parquet@${commit}`);
    expect(await messageOf(open("nq,bamboogle", [], { subset: "paper" }))).toContain(
      "holds no row of it; expected rows with data_source bamboogle",
    );
  });

  it("reads --subset", () => {
    expect([readSubset(undefined), readSubset("paper")]).toEqual([null, "paper"]);
    expect(() => readSubset("papers")).toThrow("--subset: wrong value; expected paper or paper-dropped, got papers");
  });
});

describe.skipIf(!existsSync(shared))("the seven sets as FlashRAG has them, in one folder", () => {
  it("are all found, whole, and named as the paper's table names them", async () => {
    const sets = await open("nq,triviaqa,popqa,hotpotqa,2wikimultihopqa,musique,bamboogle", [`evaluation.setsFolder=${shared}`]);
    expect(sets.map(({ title, questions }) => [title, questions.length])).toEqual([
      ["NQ", 2000],
      ["TriviaQA", 1000],
      ["PopQA", 986],
      ["HotpotQA", 2000],
      ["2Wiki", 2000],
      ["MuSiQue", 2000],
      ["Bamboogle", 125],
    ]);
  });
});

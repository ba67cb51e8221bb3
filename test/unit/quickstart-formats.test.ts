import { beforeAll, describe, expect, it } from "vitest";
import { formatNames, formatRows, methodOf, openStage, rowOf } from "../../src/commands/quickstart/formats.ts";
import { play, stopsOf, type Stage } from "../../src/commands/quickstart/play.ts";
import { loadCountryRecords, makeCountries } from "../../src/data/quickstart/countries.ts";
import { FormatScript, type Scenario } from "../../src/data/quickstart/format-script.ts";
import { inventedSource } from "../../src/data/quickstart/invented.ts";
import { containsAny } from "../../src/data/quickstart/words.ts";
import { makeWorld } from "../../src/data/quickstart/world.ts";
import { isValid } from "../../src/rl/metrics.ts";
import type { SearchTrajectory } from "../../src/rl/trajectory.ts";
import { examplesOf } from "../../src/sft/chat-examples.ts";

const world = makeWorld(makeCountries(loadCountryRecords()), { seed: 7 });
const source = inventedSource(world);
const stages = [
  "quickstart-cot",
  "quickstart-r1",
  "quickstart-search-r1",
  "quickstart-ra-agent",
  "quickstart-search-o1",
  "quickstart-tools",
  "quickstart-chat-zerosearch",
  "quickstart-chat-r1",
  "quickstart-chat-search-r1",
];

interface Played {
  readonly scenario: Scenario;
  readonly trajectory: SearchTrajectory;
}

async function playedBy(stage: Stage, count: number): Promise<Played[]> {
  const script = new FormatScript(source, methodOf(stage), "test/formats");
  const stops = stopsOf(stage);
  const played: Played[] = [];
  while (played.length < count) {
    const scenario = script.next();
    const trajectory = await play(scenario, stage, stops);
    if (trajectory !== null) played.push({ scenario, trajectory });
  }
  return played;
}

describe.each(stages)("scripted rollouts of %s", (name) => {
  let stage: Stage;
  let played: Played[];
  beforeAll(async () => {
    stage = await openStage(name);
    played = await playedBy(stage, 150);
  });

  it("become rows that fine-tuning reads as the very ids of the rollout, with its loss mask as weights", () => {
    const { tokenizer } = stage;
    let cut = 0;
    for (const { trajectory } of played) {
      const [example] = examplesOf(rowOf(trajectory, tokenizer), { tokenizer, chat: null, variables: {} }, "test");
      const ended = trajectory.ids.at(-1) === tokenizer.eosId;
      const ids = ended ? trajectory.ids : [...trajectory.ids, tokenizer.eosId];
      const weights = ended ? trajectory.lossMask : [...trajectory.lossMask, 1];
      // Documents that are cut may be read in other ids: no such row is written.
      if (JSON.stringify(example?.ids) === JSON.stringify(ids)) expect(example?.weights).toEqual(weights);
      else cut++;
    }
    expect(cut).toBeLessThan(0.1 * played.length);
  });

  it("search for what the script asks, show what it finds, and answer", () => {
    for (const { scenario, trajectory } of played) {
      expect(trajectory.status).toBe(trajectory.answer === null ? "noAnswer" : "answered");
      expect(trajectory.searches.map(({ documents }) => documents)).toEqual(scenario.results);
      expect(trajectory.turns).toBe(scenario.turns.length);
      expect((trajectory.asides ?? []).map(({ text }) => text)).toEqual(
        stage.method.name === "search-o1" ? scenario.readings.map((text) => text.replace("<|eos|>", "")) : [],
      );
    }
  });

  it("are mostly valid, but for one kind of question, and right less often than not", () => {
    const share = (test: (one: Played) => boolean, of = played): number => of.filter(test).length / of.length;
    expect(share(({ trajectory }) => isValid(trajectory))).toBeGreaterThan(0.85);
    const invalid = played.filter(({ trajectory }) => !isValid(trajectory));
    for (const { scenario } of invalid) expect(scenario.question).toContain("Turkish name");
    if (name.endsWith("cot") || name.endsWith("r1")) return;
    expect(share(({ scenario, trajectory }) => trajectory.answer === scenario.answer)).toBeLessThan(0.6);
  });
});

describe("the rows of a format", () => {
  it("are the same for the same seed, and others for another", async () => {
    for (const format of formatNames) {
      const rows = (seed: number) => formatRows(source, { format, examples: 6, seed });
      expect(await rows(1)).toEqual(await rows(1));
      expect(await rows(2)).not.toEqual(await rows(1));
    }
  });

  it("hold no name of a country of the validation or test questions", async () => {
    const heldOut = [...world.split.validation, ...world.split.test].flatMap(({ aliases }) => aliases).filter((alias) => alias.length > 3);
    for (const format of formatNames)
      for (const row of await formatRows(source, { format, examples: 60, seed: 3 }))
        expect(containsAny([row.prompt, ...row.output.map(({ text }) => text)].join(" "), heldOut)).toBe(false);
  });

  it("of Search-o1 are second passes too, which end in what was found", async () => {
    const rows = await formatRows(source, { format: "search-o1", examples: 40, seed: 1 });
    const readings = rows.filter(({ prompt }) => prompt.startsWith("Query: "));
    expect(readings.length).toBeGreaterThan(20);
    for (const { prompt, output } of readings) {
      expect(prompt).toMatch(/^Query: .+\n\*\*Web Page 1:\*\*\n\{[^]*\nFinal information: .+\?\n$/);
      expect(output.map(({ text }) => text).join("")).toMatch(/^\*\*Final Information\*\* .+\.$/);
    }
  });

  it("of RA-Agent fetch the page that a search shows the beginning of", async () => {
    const rows = await formatRows(source, { format: "ra-agent", examples: 200, seed: 1 });
    const pages = rows.filter(({ output }) => output.some(({ text }) => text.includes("<|begin_full_page|>")));
    expect(pages.length).toBeGreaterThan(5);
  });

  it("of tools call several times in one turn now and then", async () => {
    const rows = await formatRows(source, { format: "tools", examples: 200, seed: 1 });
    const calls = (text: string): number => text.split("<tool_call>").length - 1;
    expect(rows.some(({ output }) => output.some(({ text, weight }) => weight === 1 && calls(text) === 2))).toBe(true);
  });

  it("of a format that is not known are refused, with those that are", async () => {
    await expect(formatRows(source, { format: "cott", examples: 1, seed: 1 })).rejects.toThrow(
      "--format: is not known; expected cot, r1, search-r1, ra-agent, search-o1, tools, tags, chat, got cott",
    );
  });
});

/**
 * `node dist/bench/search/simulated.js [--model checkpoints/quickstart/simulator] [--questions FILE] [--searches 256] [--rounds 5]`: simulated searches a
 * second by a model in this process, all under way at once and one after the other, in turn. The last line is one line of JSON.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageFolder } from "#inside/config/package-folder.js";
import { promptSet } from "#inside/data/prompt-set.js";
import { BatchGenerator } from "#inside/generate/scheduler.js";
import { compileTextStops } from "#inside/generate/stop-automaton.js";
import { SimulatedSearch, simulatorStop } from "#inside/search/simulated.js";
import { simulatorTemplateOf } from "#inside/search/simulator-prompt.js";
import { openDevice } from "#inside/setup/open-device.js";
import { openModel } from "#inside/setup/open-model.js";
import { median } from "#inside/util/stats.js";

const quickstart = join(packageFolder, "checkpoints", "quickstart");
const text = { type: "string" } as const;
const { values } = parseArgs({
  options: {
    model: { ...text, default: join(quickstart, "simulator") },
    questions: { ...text, default: join(quickstart, "world", "test.jsonl") },
    searches: { ...text, default: "256" },
    rounds: { ...text, default: "5" },
    device: { ...text, default: "cpu" },
  },
});
const rounds = Number(values.rounds);
const documents = 3;
const questions = readFileSync(values.questions, "utf8")
  .trim()
  .split("\n")
  .slice(0, Number(values.searches))
  .map((line) => JSON.parse(line) as { readonly question: string; readonly golden_answers: readonly string[] });

const device = await openDevice({ kind: values.device as "cpu" }, console.log);
const { decoder, tokenizer } = await openModel(values.model, device, { dtype: "f32", maxPositions: 512, trainable: false });
const generator = new BatchGenerator({ device, models: { simulator: { decoder, frozen: true } }, maxRows: 128 });
const engine = new SimulatedSearch({
  ...{ generator, model: "simulator", tokenizer, documents, seed: 1, noise: 0.5, maxNewTokens: 96 },
  sampling: { temperature: 0.2 },
  stop: compileTextStops([simulatorStop(documents)], tokenizer, decoder.config.vocabulary),
  template: simulatorTemplateOf("quickstart", promptSet),
});
const ask = ({ question, golden_answers }: (typeof questions)[number], index: number): Promise<unknown> =>
  engine.simulate({ query: question, question, goldenAnswers: golden_answers, key: { step: 1, question: index, rollout: 0 }, turn: 0 });
const ways: Readonly<Record<string, () => Promise<unknown>>> = {
  atOnce: () => Promise.all(questions.map(ask)),
  async oneByOne() {
    for (const [i, question] of questions.entries()) await ask(question, i);
  },
};
const rates: Record<string, number[]> = {};
for (let round = 0; round <= rounds; round++)
  for (const [name, run] of Object.entries(ways)) {
    const begun = performance.now();
    await run();
    // The first round warms up.
    if (round > 0) (rates[name] ??= []).push((1000 * questions.length) / (performance.now() - begun));
  }
await generator.dispose();
decoder.dispose();
await device.destroy();
const perSecond = Object.fromEntries(Object.entries(rates).map(([name, some]) => [name, median(some)]));
const { atOnce = NaN, oneByOne = NaN } = perSecond;
const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
const machine = `${cpus()[0]?.model ?? "?"} x ${availableParallelism()}, Node ${process.version}`;
console.log(JSON.stringify({ machine, commit, rounds, searches: questions.length, perSecond, ratio: atOnce / oneByOne }));

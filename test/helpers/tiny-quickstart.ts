/**
 * A policy, a simulator and a world to run whole programs on: they play their parts in the right form, but know nothing. Made in a few
 * seconds, once for each build, and kept in the system's temporary folder.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildKernels } from "../../scripts/build-kernels.js";
import { exampleOf } from "../../src/commands/quickstart/examples.ts";
import { recipe, type Phase } from "../../src/commands/quickstart/recipe.ts";
import { tunePhase } from "../../src/commands/quickstart/tune.ts";
import { writeWorld } from "../../src/commands/quickstart/world-files.ts";
import { loadCountryRecords, makeCountries } from "../../src/data/quickstart/countries.ts";
import { inventedSource } from "../../src/data/quickstart/invented.ts";
import type { Segment } from "../../src/data/quickstart/policy-options.ts";
import { formatDocuments, observationText, policyPrompt, simulatorPrompt } from "../../src/data/quickstart/prompts.ts";
import { makeRandom, type Random } from "../../src/data/random.ts";
import { eosToken, makeTokenizer, padToken } from "../../src/data/quickstart/tokenizer-texts.ts";
import { makeWorld } from "../../src/data/quickstart/world.ts";
import { createDevice } from "../../src/device/create.ts";
import type { Device } from "../../src/device/device.ts";
import { fromHuggingFace } from "../../src/nn/config.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";

export const root = fileURLToPath(new URL("../../", import.meta.url));

/** Whether the quickstart's own models are there; tests that need their skills are skipped without them. */
export const hasQuickstart = ["policy", "simulator"].every((name) =>
  existsSync(join(root, "checkpoints", "quickstart", name, "model.safetensors")),
);

/** Raised when what is made below changes. */
const VERSION = 3;
const model = {
  ...recipe.model,
  hidden_size: 64,
  intermediate_size: 176,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  vocab_size: 512,
};
const regions = ["Africa", "Americas", "Asia", "Europe", "Oceania"];

/** A folder with `policy/`, `simulator/` and `world/`. */
export async function tinyQuickstart(): Promise<string> {
  await buildKernels({ ifChanged: true });
  const kernels = readFileSync(join(root, "dist", "kernels", "zerosearch.wasm"));
  const key = createHash("sha256")
    .update(JSON.stringify([VERSION, model, recipe.optimizer]))
    .update(kernels)
    .digest("hex")
    .slice(0, 16);
  const folder = join(tmpdir(), `zerosearch-tiny-quickstart-${key}`);
  if (existsSync(folder)) return folder;
  const making = `${folder}.${process.pid}`;
  const device = await createDevice();
  try {
    await make(making, device);
    renameSync(making, folder);
  } catch (error) {
    // Another test process may have been faster.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(making, { recursive: true, force: true });
    await device.destroy();
  }
  return folder;
}

/** Policy and simulator of 0.1 M parameters that play their parts in the right form but know nothing: the region of a country is a guess. */
async function make(folder: string, device: Device): Promise<void> {
  const world = makeWorld(makeCountries(loadCountryRecords()), { seed: recipe.seed });
  await writeWorld(world, join(folder, "world"));
  for (const name of ["train", "validation", "test"]) keepRegions(join(folder, "world", `${name}.jsonl`));
  const json = makeTokenizer(inventedSource(world), recipe.seed, model.vocab_size);
  const tokenizerConfig = { pad_token: padToken, eos_token: eosToken };
  const tokenizer = new Tokenizer(json, tokenizerConfig);
  const encode = (text: string): number[] => tokenizer.encode(text, { parseSpecialTokens: false });
  const config = fromHuggingFace(
    { ...model, bos_token_id: null, eos_token_id: tokenizer.eosId, pad_token_id: tokenizer.padId },
    "tiny quickstart",
  );
  const questions = readFileSync(join(folder, "world", "train.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((row) => JSON.parse(row).question as string);
  const parts = { policy: policyExample, simulator: simulatorExample };
  for (const [name, example] of Object.entries(parts)) {
    const phase: Phase = {
      name,
      from: null,
      tokens: 180e3,
      learningRate: 6e-3,
      warmupUpdates: 20,
      finalShare: 0.05,
      data: { kind: "policy", options: null as never, singleHopFirst: 0 },
    };
    const to = join(folder, name);
    mkdirSync(to, { recursive: true });
    await tunePhase({
      recipe: { ...recipe, tokensPerUpdate: 768 },
      phase,
      config,
      device,
      folder: `${to}.states`,
      from: null,
      to,
      examples: function* () {
        for (const random = makeRandom(`tiny/${name}`); ;)
          yield exampleOf(example(random, random.pick(questions)), encode, tokenizer.eosId);
      },
    });
    writeFileSync(join(to, "tokenizer.json"), JSON.stringify(json));
    writeFileSync(join(to, "tokenizer_config.json"), JSON.stringify(tokenizerConfig));
  }
}

function keepRegions(file: string): void {
  const rows = readFileSync(file, "utf8")
    .split("\n")
    .filter((row) => row !== "" && JSON.parse(row).metadata.relation === "region");
  writeFileSync(file, `${rows.join("\n")}\n`);
}

const given = (text: string): Segment => ({ text, kind: "prompt", weight: 0 });
const written = (text: string): Segment => ({ text, kind: "policy", weight: 1 });

function policyExample(random: Random, question: string): Segment[] {
  const answer = written(`<answer> ${random.pick(regions)} </answer>`);
  const documents = [1, 2, 3].map(() => `The region is ${random.pick(regions)}.`);
  const kind = random.next();
  if (kind < 0.1) return [given(policyPrompt("direct", question)), answer];
  if (kind < 0.2) return [given(policyPrompt("rag", question, formatDocuments(documents))), answer];
  if (kind < 0.5) return [given(policyPrompt("zerosearch", question)), written("<think> I know this. </think>"), answer];
  const search = written("<think> I should search. </think><search> region </search>");
  const again =
    random.next() < 0.3 ? [written("<think> It is not there. </think><search> region </search>"), given(observationText(documents))] : [];
  return [
    given(policyPrompt("zerosearch", question)),
    search,
    given(observationText(documents)),
    ...again,
    written("<think> It is there. </think>"),
    answer,
  ];
}

function simulatorExample(random: Random, question: string): Segment[] {
  const useful = random.next() < 0.6;
  const [told, other] = [random.pick(regions), random.pick(regions)];
  const prompt = simulatorPrompt({ question, answer: told, query: "region", useful });
  return [given(prompt), written(formatDocuments([1, 2, 3].map(() => `The region is ${useful ? told : other}.`)))];
}

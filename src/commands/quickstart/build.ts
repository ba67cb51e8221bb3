/** `zerosearch quickstart build`: world, tokenizer, policy and simulator from nothing, resumable, the same files every time. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, readFile, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { listFiles, makeFolder, writeFileAtomic, writeFolderAtomic } from "../../checkpoint/atomic.ts";
import { loadCountryRecords, makeCountries } from "../../data/quickstart/countries.ts";
import { inventedSource } from "../../data/quickstart/invented.ts";
import { eosToken, makeTokenizer, padToken } from "../../data/quickstart/tokenizer-texts.ts";
import { makeWorld, type World } from "../../data/quickstart/world.ts";
import type { Device } from "../../device/device.ts";
import { fromHuggingFace } from "../../nn/config.ts";
import { cachedEncoder } from "../../text/train-bpe.ts";
import { Tokenizer, type TokenizerJson } from "../../text/tokenizer.ts";
import { phaseExamples } from "./examples.ts";
import type { Phase, QuickstartRecipe } from "./recipe.ts";
import { phaseFolder, tunePhase } from "./tune.ts";
import { writeWorld } from "./world-files.ts";

export interface BuildOptions {
  readonly recipe: QuickstartRecipe;
  readonly device: Device;
  /** Folder of the finished files. */
  readonly out: string;
  /** Folder of what is kept between the stages; deleted at the end. */
  readonly work: string;
  readonly say: (text: string) => void;
}

/** Runs every stage that is not done yet. @returns the world, for measurements. */
export async function buildQuickstart({ recipe, device, out, work, say }: BuildOptions): Promise<World> {
  await makeFolder(work);
  const world = makeWorld(makeCountries(loadCountryRecords()), { seed: recipe.seed });
  const source = inventedSource(world);
  await writeWorld(world, join(out, "world"));
  const tokenizerFolder = join(work, "tokenizer");
  const special = { pad_token: padToken, eos_token: eosToken };
  if (!(await isDone(tokenizerFolder, { seed: recipe.seed, vocabulary: recipe.vocabulary }))) {
    say("Making the tokenizer.");
    const json = makeTokenizer(source, recipe.seed, recipe.vocabulary);
    await writeFolderAtomic(tokenizerFolder, async (folder) => {
      await writeFileAtomic(join(folder, "tokenizer.json"), JSON.stringify(json));
      const settings = { tokenizer_class: "PreTrainedTokenizerFast", ...special, clean_up_tokenization_spaces: false };
      await writeFileAtomic(join(folder, "tokenizer_config.json"), `${JSON.stringify(settings, null, 2)}\n`);
    });
  }
  const tokenizer = new Tokenizer(JSON.parse(await readFile(join(tokenizerFolder, "tokenizer.json"), "utf8")) as TokenizerJson, special);
  const encode = cachedEncoder((text) => tokenizer.encode(text, { parseSpecialTokens: false }));
  const config = fromHuggingFace(
    { ...recipe.model, vocab_size: recipe.vocabulary, bos_token_id: null, eos_token_id: tokenizer.eosId, pad_token_id: tokenizer.padId },
    "the quickstart's recipe",
  );
  for (const phase of recipe.phases) {
    const to = phaseFolder(work, phase.name);
    if (await isDone(to, ingredients(recipe, phase))) continue;
    const temporary = `${to}.unfinished`;
    await rm(temporary, { recursive: true, force: true });
    const loss = await tunePhase({
      recipe,
      phase,
      config,
      device,
      folder: `${to}.states`,
      from: phase.from === null ? null : phaseFolder(work, phase.from),
      to: temporary,
      examples: (share) => phaseExamples(phase, source, recipe.seed, encode, tokenizer.eosId, share),
    });
    await writeFolderAtomic(to, async (folder) => {
      for (const name of ["config.json", "model.safetensors"]) await copyFile(join(temporary, name), join(folder, name));
    });
    await rm(temporary, { recursive: true, force: true });
    say(`${phase.name}: done, loss ${loss.toFixed(3)}.`);
  }
  for (const [name, phase] of [
    ["policy", recipe.policy],
    ["simulator", recipe.simulator],
  ] as const) {
    await rm(join(out, name), { recursive: true, force: true });
    await writeFolderAtomic(join(out, name), async (folder) => {
      for (const file of ["config.json", "model.safetensors"]) await copyFile(join(phaseFolder(work, phase), file), join(folder, file));
      for (const file of ["tokenizer.json", "tokenizer_config.json"]) await copyFile(join(tokenizerFolder, file), join(folder, file));
    });
  }
  await writeFileAtomic(join(out, "SHA256SUMS"), await checksums(out));
  return world;
}

/** All that a phase's weights depend on, but for the code. */
function ingredients(recipe: QuickstartRecipe, phase: Phase): unknown {
  const { seed, vocabulary, model, tokensPerUpdate, microBatchTokens, optimizer, maxExampleTokens } = recipe;
  const before = recipe.phases.find(({ name }) => name === phase.from);
  const common = { seed, vocabulary, model, tokensPerUpdate, microBatchTokens, optimizer, maxExampleTokens };
  return { common, phase, from: before === undefined ? null : ingredients(recipe, before) };
}

/** Whether a stage is done, from these ingredients; what was made or begun from others is thrown away. */
async function isDone(folder: string, from: unknown): Promise<boolean> {
  const note = `${folder}.made-from`;
  const fingerprint = sha256(JSON.stringify(from));
  const same = existsSync(note) && (await readFile(note, "utf8")) === fingerprint;
  if (!same) {
    for (const made of [folder, `${folder}.states`, `${folder}.unfinished`]) await rm(made, { recursive: true, force: true });
    await writeFileAtomic(note, fingerprint);
  }
  return existsSync(folder);
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** `sha256sum -c` reads this. */
async function checksums(folder: string): Promise<string> {
  const lines: string[] = [];
  for (const name of (await listFiles(folder)).sort()) {
    if (name === "SHA256SUMS" || name === "README.md") continue;
    lines.push(`${sha256(await readFile(join(folder, name)))}  ${relative(".", name)}\n`);
  }
  return lines.join("");
}

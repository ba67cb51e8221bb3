/** `zerosearch sft`: supervised fine-tuning of any model, all weights or a LoRA adapter, on conversations or pairs of texts. */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { makeFolder, writeError, writeFileAtomic } from "../checkpoint/atomic.ts";
import { readJson } from "../checkpoint/folder-files.ts";
import { lockTimes, takeLock } from "../checkpoint/lock.ts";
import { listSteps } from "../checkpoint/run-state.ts";
import {
  changedKeys,
  keysHelp,
  printConfig,
  readOverride,
  readYaml,
  resolveConfig,
  savedSource,
  type ArgumentSpec,
  type Config,
} from "../config/index.ts";
import { filesOf } from "../data/data-files.ts";
import { makeRandom } from "../data/random.ts";
import { loadTuningRows, type ReadTuningRow } from "../data/tuning-rows.ts";
import { JsonLines, truncateAfterStep } from "../log/json-lines.ts";
import { formatCount, formatDuration } from "../log/progress.ts";
import { codeInputs, hashInputs, type InputHashes } from "../run/inputs.ts";
import { dryTuning } from "../plan/dry-tuning.ts";
import { loadPolicy, savePolicy } from "../run/policy-files.ts";
import { differingInputs } from "../run/receipt.ts";
import { tuningConfig } from "../run/tuning-config.ts";
import { cosineRate, forgetStates, tune, type TuningRow } from "../run/tuning.ts";
import { refuseDamagedWeights } from "../setup/check-weights.ts";
import { Closing } from "../setup/closing.ts";
import { locateData } from "../setup/locate-data.ts";
import { openLearner } from "../setup/open-learner.ts";
import type { Model } from "../setup/open-model.ts";
import { openPolicy } from "../setup/open-policy.ts";
import { examplesOf } from "../sft/chat-examples.ts";
import { meanLoss, type Example } from "../sft/fine-tune.ts";
import { ConfigError, DataError } from "../util/errors.ts";
import { counted, plural } from "../util/plural.ts";
import { givenSources, readArguments, sameCommand, say, untilInterrupted } from "./program.ts";

/** Sections that fine-tuning obeys, and keys of others. */
const sections = ["sft", "model", "lora", "optimizer"];
const further = ["seed", "train.microBatchTokens"];

const spec: ArgumentSpec = {
  program: "zerosearch sft",
  summary:
    "Fine-tunes a model, all its weights or a LoRA adapter (lora.rank=16), on the rows of sft.data: {messages}, or {prompt, output}. Stopped, it goes on by the same command.",
  options: {
    to: {
      value: "FOLDER",
      doc: "The tuned model, or its adapter: a new folder. FOLDER.sft beside it keeps the settings, the log and, until it is done, its states.",
    },
    config: { value: "FILE", doc: "YAML file with settings, as for training." },
    device: { value: "KIND", doc: "Short for device.kind=KIND." },
    fresh: { doc: "Starts again from nothing, where it was stopped before." },
    "dry-run": { doc: "Says what will be held where and whether it fits, and ends: nothing is computed, fetched or written." },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const example = `
Example: zerosearch sft model.policy=Qwen/Qwen2.5-0.5B-Instruct sft.data=pairs.jsonl lora.rank=16 sft.learningRate=1e-4 --to my-simulator

docs/sft.md shows the rows, and how a simulator of one's own is made.
`;
  const read = readArguments(argv, spec, `\nSettings:\n\n${keysHelp({ all: true, only: sections })}${example}`);
  if (read === null) return;
  const { options } = read;
  const given = givenSources(read);
  if (options.has("dry-run")) {
    // People plan before they have examples.
    const { plan, text } = await dryTuning(resolveConfig([...given, readOverride("sft.data=none")], "sft"));
    process.stdout.write(text);
    if (plan.fits === false) process.exitCode = 1;
    return;
  }
  const config = resolveConfig(given, "sft");
  const to = options.get("to");
  if (to === undefined)
    throw new ConfigError({ where: "--to", what: "is missing", expected: "the folder of the tuned model", got: "nothing" });
  await untilInterrupted((signal) => fineTune(config, { to, fresh: options.has("fresh"), signal }), {
    leave: () => say("Stopped, and saved where an update was done: the same command goes on."),
  });
}

interface Wanted {
  readonly to: string;
  readonly fresh: boolean;
  readonly signal: AbortSignal;
}

async function fineTune(asked: Config, { to, fresh, signal }: Wanted): Promise<void> {
  if (existsSync(to)) throw new ConfigError({ where: `--to ${to}`, what: "is there already", hint: "Name another folder, or delete it." });
  const begun = performance.now();
  const work = `${to}.sft`;
  const states = join(work, "states");
  const closing = new Closing();
  const isNew = !existsSync(work);
  // Where nothing was begun, nothing is left behind.
  if (isNew)
    closing.add(work, (folder) => (existsSync(to) || existsSync(states) ? undefined : rm(folder, { recursive: true, force: true })));
  await closing.after(async () => {
    await makeFolder(work).catch((cause: unknown) => {
      throw writeError(work, cause, "nothing was computed");
    });
    const lock = { times: { ...lockTimes, ended: 0 }, signal, refuse: refusal(to) };
    closing.add(await takeLock(join(work, "sft.lock"), lock), (one) => one.close());
    if (fresh) await forgetStates(states);
    await checkSettings(asked, work, states);
    const config = tuningConfig((await locateData(asked, { signal })).opened);
    const { sft, train, seed } = config;
    const rows = await loadTuningRows(filesOf(sft.data));
    const heldOutRows = sft.validation === null ? [] : await loadTuningRows(filesOf(sft.validation));

    const opened = await openPolicy(config, { trains: true, closing });
    const { policy } = opened;
    await refuseDamagedWeights(policy);
    const resumed = await checkInputs(await hashInputs(opened.opened), work, states);
    const learner = openLearner(config, opened, closing);
    const examples = makeExamples(rows, policy, config, "sft.data");
    const heldOut = makeExamples(heldOutRows, policy, config, "sft.validation");
    const epoch = tokensOf(examples);
    const tokens = Math.max(1, Math.round(epoch * sft.epochs));
    const learnt = examples.reduce((sum, { weights }) => sum + weights.slice(1).filter((weight) => weight > 0).length, 0);
    const tokensPerUpdate = sft.tokensPerUpdate === 0 ? Math.min(16384, Math.max(512, Math.ceil(epoch / 16))) : sft.tokensPerUpdate;
    const updates = Math.ceil(tokens / tokensPerUpdate);
    const warmupUpdates = Math.min(sft.warmupSteps, Math.ceil(updates / 10));
    const sizes = [counted(examples.length, "example"), counted(epoch, "token"), `${formatCount(learnt)} of them learnt`];
    const whole = `${sft.epochs} ${plural(sft.epochs, "epoch")}, ${counted(tokens, "token")}`;
    say(`${sizes.join(", ")}; ${whole}, about ${counted(updates, "update")}`);
    if (updates < 10) say("note: so few updates teach little; more epochs, or a smaller sft.tokensPerUpdate, make more of them.");
    if (resumed > 0) say(`Going on after update ${resumed} from ${states}.`);

    const log = closing.add(openLog(join(work, "log.jsonl"), resumed), (one) => one.close());
    const { microBatchTokens, recompute, saveMinutes } = train;
    const { adapter, decoder } = policy;
    const measure = (): Promise<number> => meanLoss(decoder, heldOut, { microBatchTokens, adapter });
    if (heldOut.length > 0 && resumed === 0) say(`validation loss before: ${(await measure()).toFixed(4)}`);
    const rate = { peak: sft.learningRate, warmupUpdates, finalFraction: sft.finalFraction };
    const { loss } = await tune({
      label: "tuning",
      decoder,
      adapter,
      ...learner,
      tokens,
      examples: () => inEpochs(examples, tokens, seed),
      tokensPerUpdate,
      maxTokens: sft.maxTokens,
      microBatchTokens,
      recompute,
      learningRate: (u, share) => cosineRate(rate, u, share),
      states: {
        folder: states,
        seed,
        model: { write: (path) => savePolicy(policy, path, "f32"), load: (path) => loadPolicy(policy, path) },
        logBytes() {
          log.sync();
          return { [basename(log.file)]: log.bytes };
        },
      },
      saveMinutes,
      validation: heldOut.length === 0 ? undefined : { every: Math.max(1, Math.round(epoch / tokensPerUpdate)), measure },
      onUpdate: (row) => log.append([row]),
      signal,
    });
    await savePolicy(policy, to, config.output.dtype);
    await forgetStates(states);
    const what = adapter === undefined ? "The tuned model" : `The adapter on ${asked.model.policy}`;
    say(
      `${what} is in ${to}, the log in ${log.file}; loss at the end ${loss.toFixed(4)}, ${formatDuration((performance.now() - begun) / 1000)}.`,
    );
  });
  say(howToUse(to, asked));
}

function refusal(to: string): (holder: { readonly pid: number }) => Error {
  return ({ pid }) =>
    new ConfigError({ where: `--to ${to}`, what: `process ${pid} is making it`, hint: "Stop that one first (Ctrl-C there saves it)." });
}

const settingsFile = "config.yaml";
const inputsFile = "inputs.json";

/** What was begun is gone on with under the settings that it was begun with. @throws ConfigError naming those that differ */
async function checkSettings(asked: Config, work: string, states: string): Promise<void> {
  const file = join(work, settingsFile);
  if (existsSync(file) && (await listSteps(states)).length > 0) {
    const before = resolveConfig(
      readYaml(file).map(({ tree }) => savedSource(tree, file)),
      "sft",
    );
    const changed = changedKeys(before, asked).filter(({ key }) => sections.includes(key.split(".")[0] as string) || further.includes(key));
    if (changed.length > 0)
      throw new ConfigError({
        where: work,
        what: `was begun with other settings: ${changed.map(({ key, before: was, after }) => `${key} was ${JSON.stringify(was)}, now ${JSON.stringify(after)}`).join("; ")}`,
        hint: "Go on with the old ones, start again from nothing with --fresh, or name another --to.",
      });
  }
  await writeFileAtomic(file, printConfig(asked));
}

/** The same of files. @returns the update of the newest state, 0 where there is none */
async function checkInputs(inputs: InputHashes, work: string, states: string): Promise<number> {
  const file = join(work, inputsFile);
  const step = (await listSteps(states)).at(-1) ?? 0;
  if (step > 0 && existsSync(file)) {
    const before = await readJson(file, z.record(z.string(), z.string()), "what fine-tuning was begun with");
    const changed = differingInputs(before, inputs).filter((name) => !codeInputs.includes(name));
    if (changed.length > 0)
      throw new ConfigError({
        where: work,
        what: `changed since it was begun: ${changed.join(", ")}`,
        hint: "Put the old files back, start again from nothing with --fresh, or name another --to.",
      });
  } else await writeFileAtomic(file, `${JSON.stringify(inputs, null, 1)}\n`);
  return step;
}

/** @throws DataError where none is short enough */
function makeExamples(
  rows: readonly ReadTuningRow[],
  { tokenizer, chatTemplate, maxPositions }: Model,
  config: Config,
  key: string,
): Example[] {
  const { sft, rollout } = config;
  const chat = sft.raw || chatTemplate === null ? null : chatTemplate.renderPrompt.bind(chatTemplate);
  const text = { tokenizer, chat, variables: rollout.chatTemplateKwargs };
  const most = Math.min(sft.maxTokens, maxPositions);
  const all = rows.flatMap(({ row, where }) => examplesOf(row, text, where));
  const fitting = all.filter(({ ids }) => ids.length <= most);
  const longest = all.reduce((longer, { ids }) => Math.max(longer, ids.length), 0);
  if (rows.length > 0 && fitting.length === 0)
    throw new DataError({
      where: key,
      what: "all examples are too long",
      expected: `at most ${most} tokens (sft.maxTokens, and the model's own limit)`,
      got: `${Math.min(...all.map(({ ids }) => ids.length))} and more`,
    });
  if (fitting.length < all.length)
    say(
      `note: ${key}: ${all.length - fitting.length} of ${all.length} examples have more than ${most} tokens (up to ${longest}), and are left out.`,
    );
  return fitting;
}

function tokensOf(examples: readonly Example[]): number {
  return examples.reduce((sum, { ids }) => sum + ids.length, 0);
}

/** Until these are so many tokens; each epoch in an order of its own. */
function* inEpochs(examples: readonly Example[], tokens: number, seed: number): Generator<Example, void> {
  let done = 0;
  for (let epoch = 1; done < tokens; epoch++)
    for (const example of makeRandom(`${seed}/sft/${epoch}`).shuffle(examples)) {
      if (done >= tokens) return;
      yield example;
      done += example.ids.length;
    }
}

/** The log up to the update that is gone on from. */
function openLog(file: string, resumed: number): JsonLines<TuningRow> {
  truncateAfterStep(file, resumed);
  return new JsonLines<TuningRow>(file, sameCommand);
}

function howToUse(to: string, { lora, model }: Config): string {
  if (lora.rank === 0 && lora.from === null) return `As a policy: model.policy=${to}. As a simulator: simulator.path=${to}.`;
  return `As a policy: model.policy=${model.policy} lora.from=${to}. As a simulator: simulator.path=${model.policy} simulator.adapter=${to}.`;
}

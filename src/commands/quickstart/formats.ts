/** `zerosearch quickstart formats`: rows that teach the quickstart's policy another format, for `zerosearch sft`. */
import { methods } from "../../agent/methods/index.ts";
import type { AgentContext } from "../../agent/methods/method.ts";
import { loadConfig } from "../../checkpoint/load-model.ts";
import { packagedConfig, readYaml, resolveConfig } from "../../config/index.ts";
import { FormatScript, scriptedMethods, type ScriptedMethod } from "../../data/quickstart/format-script.ts";
import type { InventedSource } from "../../data/quickstart/invented.ts";
import type { SearchTrajectory } from "../../rl/trajectory.ts";
import { promptSettings } from "../../setup/open-agents.ts";
import { files, openTokenizer } from "../../setup/open-model.ts";
import { ours } from "../../text/prompt.ts";
import type { Tokenizer } from "../../text/tokenizer.ts";
import { ConfigError } from "../../util/errors.ts";
import { play, stopsOf, type Stage } from "./play.ts";

/** Each format by the configurations that run it: its rows are of them in turns. */
const formats: Readonly<Record<string, readonly string[]>> = {
  cot: ["quickstart-cot"],
  r1: ["quickstart-r1"],
  "search-r1": ["quickstart-search-r1"],
  "ra-agent": ["quickstart-ra-agent"],
  "search-o1": ["quickstart-search-o1"],
  tools: ["quickstart-tools"],
  tags: ["quickstart-cot", "quickstart-ra-agent", "quickstart-search-o1", "quickstart-tools"],
  chat: ["quickstart-chat-zerosearch", "quickstart-chat-r1", "quickstart-chat-search-r1"],
};

export const formatNames = Object.keys(formats);

/** A row for `sft` with `sft.raw=true`: what the policy wrote has weight 1, what it was given 0. */
export interface FormatRow {
  readonly prompt: string;
  readonly output: readonly { readonly text: string; readonly weight: 0 | 1 }[];
}

export interface FormatOptions {
  readonly format: string;
  /** Scripted rollouts; one with second passes makes several rows. */
  readonly examples: number;
  readonly seed: number;
}

/**
 * The rows of a format, a function of seed and format. Each is one rollout (or one second pass), which the method itself made with a policy that speaks
 * as scripted: encoded piece by piece, as `sft` does, it has the ids that a run has.
 * @throws ConfigError for a format that is not known
 */
export async function formatRows(source: InventedSource, { format, examples, seed }: FormatOptions): Promise<FormatRow[]> {
  const names = formats[format];
  if (names === undefined)
    throw new ConfigError({ where: "--format", what: "is not known", expected: formatNames.join(", "), got: format });
  const acts = await Promise.all(
    names.map(async (name) => {
      const stage = await openStage(name);
      return {
        stage,
        stops: stopsOf(stage),
        script: new FormatScript(source, methodOf(stage), `${seed}/formats/${name}`),
      };
    }),
  );
  const rows: FormatRow[] = [];
  for (let i = 0; i < examples; i++) {
    const { stage, stops, script } = acts[i % acts.length] as (typeof acts)[number];
    const trajectory = await playNext(script, stage, stops);
    rows.push(rowOf(trajectory, stage.tokenizer));
    for (const { prompt, text } of trajectory.asides ?? []) rows.push({ prompt, output: [{ text, weight: 1 }] });
  }
  return rows;
}

/** Scenarios that do not fit are left out, and those whose documents are cut: a text cut inside a word may have other ids when it is read again. */
async function playNext(script: FormatScript, stage: Stage, stops: AgentContext["stops"]): Promise<SearchTrajectory> {
  for (;;) {
    const trajectory = await play(script.next(), stage, stops);
    if (trajectory === null) continue;
    const ids = idsOf(rowOf(trajectory, stage.tokenizer), stage.tokenizer);
    if (ids.length === endless(trajectory, stage.tokenizer).length && ids.every((id, i) => id === trajectory.ids[i])) return trajectory;
  }
}

/** What a configuration of this package runs with. */
export async function openStage(name: string): Promise<Stage> {
  const config = resolveConfig(readYaml(packagedConfig(`methods/${name}`)));
  const { chatTemplate: template } = config.model;
  // All have the tokenizer of the weights that they are tuned from, and may not be there yet.
  const { policy } = resolveConfig(readYaml(packagedConfig("quickstart"))).model;
  const tokenizer = await openTokenizer(policy);
  const { vocabulary, maxPositions } = await loadConfig(policy);
  const chatTemplate = template === null ? null : await files.template(template, tokenizer);
  const method = methods[config.rollout.method as ScriptedMethod];
  return { method, config, tokenizer, vocabulary, positions: maxPositions, prompts: promptSettings(config, { chatTemplate }) };
}

export function methodOf({ method }: Pick<Stage, "method">): ScriptedMethod {
  return scriptedMethods.find((name) => name === method.name) as ScriptedMethod;
}

/** A rollout as a row; `sft` adds the end of sequence itself. */
export function rowOf(trajectory: SearchTrajectory, tokenizer: Tokenizer): FormatRow {
  const { promptLength, lossMask } = trajectory;
  const ids = endless(trajectory, tokenizer);
  const text = (from: number, to: number): string => tokenizer.decode(ids.slice(from, to), { continuation: from > 0 });
  const output: { text: string; weight: 0 | 1 }[] = [];
  for (let from = promptLength; from < ids.length;) {
    let to = from;
    while (to < ids.length && lossMask[to] === lossMask[from]) to++;
    output.push({ text: text(from, to), weight: lossMask[from] === 1 ? 1 : 0 });
    from = to;
  }
  return { prompt: text(0, promptLength), output };
}

/** Its ids without the end of sequence that it may end with. */
function endless({ ids }: SearchTrajectory, { eosId }: Tokenizer): readonly number[] {
  return ids.at(-1) === eosId ? ids.slice(0, -1) : ids;
}

function idsOf({ prompt, output }: FormatRow, tokenizer: Tokenizer): number[] {
  return [prompt, ...output.map(({ text }) => text)].flatMap((text) => tokenizer.encodePrompt([ours(text)]));
}

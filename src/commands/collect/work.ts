/** The folder in which `zerosearch collect` keeps its stages: what each was made from, so that nothing is asked twice and nothing stale is used. */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../../checkpoint/atomic.ts";
import { readJson } from "../../checkpoint/folder-files.ts";
import type { Config } from "../../config/index.ts";
import { keys, valueAt } from "../../config/keys.ts";
import { codeInputs, type InputHashes } from "../../run/inputs.ts";
import { engineKind } from "../../search/engines.ts";
import { ConfigError } from "../../util/errors.ts";

export const workFiles = {
  rollouts: "rollouts.jsonl",
  judged: "judged.jsonl",
  report: "report.json",
  searches: "searches.sqlite",
  madeFrom: "made-from.json",
  lock: "collect.lock",
};

type MadeFrom = Readonly<Record<string, string>>;

const schema = z.strictObject({ searches: z.record(z.string(), z.string()), labels: z.record(z.string(), z.string()) });

/** What changes no answer: how patiently somebody is asked, with which key. */
const patience = /(?:[kK]ey|[cC]oncurrency|[tT]imeout|[pP]atience|break\w+|price|url|endpoint)$/;
const ofSearches = [
  "collect.exclude",
  "collect.policy",
  "collect.rollouts",
  "collect.endpoint",
  "collect.endpointModel",
  "collect.maxNewTokens",
];

/** The settings and files that the searches, and that the labels depend on. */
function madeFrom(config: Config, inputs: InputHashes): { readonly searches: MadeFrom; readonly labels: MadeFrom } {
  const searches: Record<string, string> = {};
  const labels: Record<string, string> = {};
  const engine = engineKind(config.evaluation.engine)?.section;
  const samples =
    config.collect.policy === "model" ? ["model", "lora", "rollout"] : config.collect.policy === "endpoint" ? ["rollout"] : [];
  for (const { key, section, path, names } of keys) {
    const value = valueAt(config, key);
    // What a file holds says more than where it is.
    const isFile =
      path &&
      value !== null &&
      !names.includes(String(value)) &&
      ![value].flat().some((one) => inputs[key] === undefined && !existsSync(String(one)));
    if (patience.test(key) || isFile) continue;
    const is = section === "judge" || key === "collect.maxWords" || key === "reward.normalizer";
    if (is) labels[key] = JSON.stringify(value);
    else if (key === "seed" || key === "evaluation.engine" || section === engine || samples.includes(section) || ofSearches.includes(key))
      searches[key] = JSON.stringify(value);
  }
  for (const [name, hash] of Object.entries(inputs)) {
    if (codeInputs.includes(name) || /^(sft|simulator|search|cost|data\.(train|validation|test)|collect\.exclude)\b/.test(name)) continue;
    if (name.startsWith("judge.")) labels[name] = hash;
    else searches[name] = hash;
  }
  return { searches, labels };
}

/**
 * Compares with what the folder was begun with, and notes it. Labels by another judge are thrown away, which `say` is told; searches are paid for, and stay.
 * @throws ConfigError where the searches were made with other settings or files
 */
export async function checkWork(work: string, config: Config, inputs: InputHashes, say: (text: string) => void): Promise<void> {
  const now = madeFrom(config, inputs);
  const file = join(work, workFiles.madeFrom);
  if (existsSync(file) && existsSync(join(work, workFiles.rollouts))) {
    const before = await readJson(file, schema, "what the searches were made with");
    const changed = differing(before.searches, now.searches);
    if (changed.length > 0)
      throw new ConfigError({
        where: work,
        what: `its searches were made with other settings or files: ${changed.join("; ")}`,
        hint: "Go on with the old ones, name another --to, or throw its searches away with --fresh.",
      });
    const rejudged = differing(before.labels, now.labels);
    if (rejudged.length > 0 && existsSync(join(work, workFiles.judged))) {
      await rm(join(work, workFiles.judged));
      say(`Judging again, as these differ: ${rejudged.join("; ")}.`);
    }
  }
  await writeFileAtomic(file, `${JSON.stringify(now, null, 1)}\n`);
}

function differing(before: MadeFrom, now: MadeFrom): string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((name) => before[name] !== now[name]);
  const isHash = (value: string): boolean => /^[0-9a-f]{64}$/.test(value);
  return names.map((name) => {
    const [was = "nothing", is = "nothing"] = [before[name], now[name]];
    return isHash(was) || isHash(is) ? name : `${name} was ${was}, now ${is}`;
  });
}

/** What the rows of an evaluation depend on: an evaluation goes on only with the same. */
import { createHash } from "node:crypto";
import { hashFile } from "../../checkpoint/run-state.ts";
import { pathHere, portable, type Config } from "../../config/index.ts";
import { promptSet } from "../../data/prompt-set.ts";
import type { Identity } from "../../evaluation/folder.ts";
import type { When } from "../../evaluation/report.ts";
import { hashInputs } from "../../run/inputs.ts";
import { engineKind } from "../../search/engines.ts";
import { openedAs } from "../../setup/evaluated-engines.ts";
import { curriculum } from "../../setup/open-agents.ts";
import type { OpenedSet } from "../../setup/open-sets.ts";
import type { OpenedMethods } from "./wish.ts";

export interface IdentityParts {
  readonly opened: OpenedMethods;
  readonly sets: readonly OpenedSet[];
  readonly engines: readonly string[];
  readonly when: When;
  readonly step: number | null;
  /** Of the device, by its name in the table. */
  readonly device: string;
}

/** Settings of `rollout` that change no row. */
const withoutEffect = ["method", "cacheMiB"];

/** @param config - with folders in place of Hub ids. @throws FileError where a file cannot be read */
export async function identityOf(config: Config, { opened, sets, engines, when, step, device }: IdentityParts): Promise<Identity> {
  const { methods, modules } = opened;
  const { seed, model, reward, compat, evaluation, search, rollout, lora } = config;
  const settings = Object.entries(rollout).filter(([name]) => !withoutEffect.includes(name));
  return {
    when,
    step,
    seed,
    methods: methods.map(({ name }) => name),
    ...(await hashes("method", [...modules])),
    ...Object.fromEntries(
      sets.map(({ name, questions }) => [`set ${name}`, `${questions.length} questions, SHA-256 ${hashOf(questions)}`]),
    ),
    engines,
    ...(await engineIdentities(config, engines)),
    ...(await modelHashes(config, new Set(engines.map(openedAs)))),
    ...endpointOf(evaluation),
    ...{ "model.dtype": model.dtype, "model.cacheDtype": model.cacheDtype, "lora.from": lora.from !== null },
    ...{ "device.kind": device, "device.precision": config.device.precision },
    ...Object.fromEntries(settings.map(([name, value]) => [`rollout.${name}`, value])),
    ...{ "reward.normalizer": reward.normalizer, "evaluation.hotpotYesNo": evaluation.hotpotYesNo, "search.onFailure": search.onFailure },
    ...Object.fromEntries(Object.entries(compat).map(([name, value]) => [`compat.${name}`, value])),
  };
}

export function hashOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

async function hashes(what: string, files: readonly (readonly [string, string])[]): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const [name, file] of files) all[`${what} ${name}`] = await hashFile(file);
  return all;
}

/** As a recording knows engines again. */
async function engineIdentities(config: Config, engines: readonly string[]): Promise<Record<string, unknown>> {
  const { search, ...sections } = portable(config);
  const { seed, data } = config;
  const context = {
    seed,
    noise: curriculum(config),
    unit: config.curriculum.unit,
    corpus: data.corpus,
    modelDtype: config.model.dtype,
    promptSet,
    hashFile,
    pathHere,
  };
  const all: Record<string, unknown> = {};
  for (const name of new Set(engines.map(openedAs))) {
    const kind = engineKind(name);
    all[`engine ${name}`] =
      kind === undefined
        ? { settings: search.settings, module: await hashFile(name) }
        : await kind.identity(sections[kind.section], context);
  }
  return all;
}

/** Of a policy behind an endpoint: who answers there is known by name alone. */
function endpointOf({ endpoint, endpointModel, endpointTurns, opensThought }: Config["evaluation"]): Record<string, unknown> {
  if (endpoint === null) return {};
  const settings = { endpoint, endpointModel, endpointTurns, opensThought };
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [`evaluation.${name}`, value]));
}

/** The files of the policy, of its adapter and of models that the engines run on. */
async function modelHashes(
  { data, search, simulator, dense, ...config }: Config,
  engines: ReadonlySet<string>,
): Promise<Record<string, string>> {
  const here = config.evaluation.endpoint === null;
  const named = await hashInputs({
    ...config,
    data: { ...data, train: null, validation: null, test: null, corpus: null },
    search: { ...search, replay: null },
    simulator: engines.has("simulated") ? simulator : { ...simulator, path: null, adapter: null },
    dense: engines.has("dense") ? dense : { ...dense, path: null, encoder: null, index: null },
  });
  const models = here
    ? /^(model\.policy|model\.chatTemplate|lora\.from|simulator\.(path|adapter)|dense\.(path|encoder)|rollout\.prompt)(\/|$)/
    : /^(dense\.(path|encoder)|rollout\.prompt)(\/|$)/;
  return Object.fromEntries(Object.entries(named).filter(([name]) => models.test(name)));
}

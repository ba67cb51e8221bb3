/** The policy that a run left, for programs that use it: its best state if it was validated, else its newest. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { exists } from "../checkpoint/atomic.ts";
import { ADAPTER_WEIGHTS } from "../checkpoint/folder-files.ts";
import { listSteps, openCheckpoint, readRunState, stepName, type RunState } from "../checkpoint/run-state.ts";
import {
  isCalled,
  isTree,
  readYaml,
  resolveConfig,
  runConfigFile,
  savedSource,
  type Config,
  type Purpose,
  type Source,
} from "../config/index.ts";
import { attempt, ConfigError } from "../util/errors.ts";
import { resumeCommand } from "./leave.ts";
import { statesFolder } from "./run.ts";

/** A policy to be used, in a configuration that names it. */
export interface FoundPolicy {
  readonly config: Config;
  /** Which it is, in words. */
  readonly text: string;
  /** Training steps behind it; null where nobody knows. */
  readonly step: number | null;
}

/** What a user asked for, as words of a command line. */
export interface PolicyWish {
  /** `--run`: a run by name, or its folder. */
  readonly run?: string | undefined;
  /** `--config` */
  readonly file?: string | undefined;
  /** `key=value` over it. */
  readonly overrides: readonly Source[];
  readonly purpose: Purpose;
}

/** A run by the folder of its logs. */
interface RunFolder {
  readonly runs: string;
  readonly name: string;
}

/**
 * What the run left that is named, by `--run` or by its own saved configuration as `--config`; null where neither is. A policy that the
 * overrides name is taken in its place.
 * @throws ConfigError where both are given, there is no such run, or it has saved nothing yet; FileError for a damaged state
 */
export async function policyOfRun(wish: PolicyWish): Promise<FoundPolicy | null> {
  const run = namedRun(wish);
  if (run === null) return null;
  const config = runConfig(run, wish.overrides, wish.purpose);
  if (namesPolicy(wish.overrides)) return { config, text: `${config.model.policy}${adapterText(config)}`, step: null };
  const left = await policyLeft(run, config);
  if (left !== null) return left;
  throw new ConfigError({
    where: `run ${run.name}`,
    what: "has saved no state yet",
    expected: `${join(statesFolder(config), stepName(1))}, or a later one`,
    hint: `Go on with it: ${resumeCommand({ ...config, output: { ...config.output, runs: run.runs } })}`,
  });
}

/** The configuration of the run that is named, whose policy is the one that it started from; null as `policyOfRun`. @throws as that */
export function startOfRun(wish: PolicyWish): Config | null {
  const run = namedRun(wish);
  return run === null ? null : runConfig(run, wish.overrides, wish.purpose);
}

/** The policy of the run in `runs` that saved last, of those called `name` or `<name>-<count>` where that is given; null where there is none. */
export async function newestPolicy(runs: string, { overrides, purpose }: PolicyWish, name?: string): Promise<FoundPolicy | null> {
  const times: { readonly run: RunFolder; readonly time: number }[] = [];
  for (const one of runNames(runs)) {
    if (name !== undefined && !isCalled(one, name)) continue;
    const run = { runs, name: one };
    // What training asked for was there; only the one that is taken must do for more. One that cannot be read is `zerosearch runs`' to tell of.
    const config = attempt(() => runConfig(run, overrides, "train"), null);
    if (config === null) continue;
    const folder = statesFolder(config);
    const newest = (await listSteps(folder)).at(-1);
    if (newest !== undefined) times.push({ run, time: statSync(join(folder, stepName(newest))).mtimeMs });
  }
  const last = times.sort((a, b) => b.time - a.time)[0];
  return last === undefined ? null : policyLeft(last.run, runConfig(last.run, overrides, purpose));
}

/** Whether a policy is named by overrides: nobody looks for another then. */
export function namesPolicy(overrides: readonly Source[]): boolean {
  const names = (section: unknown, key: string): boolean => isTree(section) && key in section;
  return overrides.some(({ tree }) => names(tree["model"], "policy") || names(tree["lora"], "from"));
}

/** Names of the runs whose logs lie in a folder. */
export function runNames(runs: string): string[] {
  if (!existsSync(runs)) return [];
  return readdirSync(runs).filter((name) => existsSync(join(runs, name, runConfigFile)));
}

/** The configuration that a run was started with, and overrides over it. @throws ConfigError, FileError */
export function runConfig({ runs, name }: RunFolder, overrides: readonly Source[], purpose: Purpose): Config {
  const file = join(runs, name, runConfigFile);
  if (!existsSync(file)) {
    const names = runNames(runs);
    throw new ConfigError({
      where: `run ${name}`,
      what: `there is none in ${runs}`,
      expected: names.length === 0 ? "a run: node train.js makes one" : names.join(", "),
      ...(names.length === 0 ? {} : { hint: "zerosearch runs lists them; output.runs=FOLDER looks elsewhere." }),
    });
  }
  const saved = readYaml(file).map(({ tree }) => savedSource(tree, file));
  // What searches its training kept is not what others search.
  const unrecorded: Source[] = purpose === "train" ? [] : [{ tree: { search: { record: null, replay: null } }, locate: () => undefined }];
  return { ...resolveConfig([...saved, ...unrecorded, ...overrides], purpose), name };
}

function namedRun({ run, file, overrides }: PolicyWish): RunFolder | null {
  if (run === undefined) return file !== undefined && isSavedConfig(file) ? folderOf(dirname(resolve(file))) : null;
  if (file !== undefined)
    throw new ConfigError({ where: "--config", what: "and --run are both given", expected: "one: a run has its own configuration" });
  if (run.includes("/") || run.includes(sep)) return folderOf(run);
  return { runs: outputFolders(overrides).runs, name: run };
}

/** Where the logs of runs are: `output.runs`, as overrides say. */
export function outputFolders(overrides: readonly Source[]): Config["output"] {
  const policy: Source = { tree: { model: { policy: "any" } }, locate: () => undefined };
  return resolveConfig([policy, ...overrides.filter(({ tree }) => "output" in tree)], "evaluate").output;
}

function folderOf(path: string): RunFolder {
  return { runs: dirname(path), name: basename(path) };
}

/** Whether a file is the configuration that a run left beside its logs. */
function isSavedConfig(file: string): boolean {
  if (basename(file) !== runConfigFile || !existsSync(file)) return false;
  return readYaml(file).at(-1)?.tree["name"] === basename(dirname(resolve(file)));
}

/** Null where the run has saved nothing. */
async function policyLeft({ name }: RunFolder, config: Config): Promise<FoundPolicy | null> {
  const folder = statesFolder(config);
  const steps = await listSteps(folder);
  const newest = steps.at(-1);
  if (newest === undefined) return null;
  const { best } = await readRunState(join(folder, stepName(newest)));
  const isBest = best !== null && steps.includes(best.step);
  const step = isBest ? best.step : newest;
  const state = await openCheckpoint(join(folder, stepName(step)), /^(policy\/|state\.json$)/);
  const policy = state.part("policy");
  const why = isBest ? bestText(best) : "its newest state";
  return {
    config: await usePolicy(config, policy),
    text: `run ${name} after step ${step} of ${config.train.steps}, ${why} (${policy})`,
    step,
  };
}

function bestText({ score }: NonNullable<RunState["best"]>): string {
  return `best of its validations with F1 ${score.toFixed(3)}`;
}

/** All weights take the policy's place, a LoRA adapter lies on it. */
async function usePolicy(config: Config, folder: string): Promise<Config> {
  if (await exists(join(folder, ADAPTER_WEIGHTS))) return { ...config, lora: { ...config.lora, from: folder } };
  return { ...config, model: { ...config.model, policy: folder } };
}

function adapterText({ lora }: Config): string {
  return lora.from === null ? "" : ` with the LoRA adapter ${lora.from}`;
}

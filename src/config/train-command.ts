/** What `node train.js ...` was asked to do. */
import { existsSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { argumentsHelp, parseArguments, type ArgumentSpec } from "./arguments.ts";
import { changedKeys, keysHelp, printConfig, type ChangedKey } from "./print.ts";
import { packageFolder } from "./package-folder.ts";
import { resolveConfig } from "./resolve.ts";
import { newestRunName, noSuchRun, runConfigFile } from "./run-name.ts";
import type { Config } from "./schema.ts";
import { readOverride, readYaml, savedSource, type Source } from "./source.ts";

export const trainSpec: ArgumentSpec = {
  program: "node train.js",
  summary: "Trains a policy to search by reinforcement learning; without arguments, the quickstart.",
  options: {
    config: { value: "FILE", doc: "YAML file with what differs from the defaults (configs/quickstart.yaml where it is left out)." },
    resume: {
      value: "[RUN]",
      doc: "Goes on with a run, by name or by its folder, from its last saved state; the newest run of the configured name where RUN is left out.",
    },
    "allow-changed": { doc: "Goes on although data, corpus or models of the run have changed since its state was saved; they are named." },
    device: { value: "KIND", doc: "Short for device.kind=KIND." },
    "dry-run": {
      doc: "Plans the run and stops: what will be held where against the memory there is, the time of a step, and what it would cost where something has a price. Exit code 1 where it cannot fit, with the settings that would make it fit. Needs no weights, and no GPU with --device webgpu device.memoryGiB=N.",
    },
    "print-config": { doc: "Prints the resolved configuration and stops." },
  },
  settings: true,
};

export interface TrainCommand {
  /** Text to print instead of training. */
  readonly print?: string;
  /** To plan instead of training. */
  readonly dryRun?: boolean;
  readonly config: Config;
  readonly resume: boolean;
  /** Keys that differ from those the resumed run was started with. */
  readonly changed: readonly ChangedKey[];
  /** Whether the run goes on though its inputs have changed. */
  readonly allowChanged?: boolean;
}

/**
 * Reads the command line, the files it names and, to resume, the configuration saved with the run.
 * @throws ConfigError or FileError for whatever is wrong.
 */
export function readTrainCommand(argv: readonly string[]): TrainCommand | { readonly print: string } {
  const { options, settings } = parseArguments(argv, trainSpec);
  if (options.has("help")) return { print: trainHelp(options.get("help") === "all") };
  const device = options.get("device");
  const given = [...settings, ...(device === undefined ? [] : [`device.kind=${device}`])];
  const run = options.get("resume");
  const command = trainCommand({
    config: options.get("config"),
    settings: given,
    resume: run === "" ? true : (run ?? false),
    allowChanged: options.has("allow-changed"),
  });
  if (options.has("print-config")) return { ...command, print: printConfig(command.config) };
  return options.has("dry-run") ? { ...command, dryRun: true } : command;
}

/** What a program asks for, as the command line would: a file (the quickstart's unless given), settings over it, a run to go on with. */
export function trainCommand(asked: {
  readonly config?: string | undefined;
  readonly settings: readonly string[];
  /** Its name; true is the newest of the configured name. */
  readonly resume: string | boolean;
  readonly allowChanged?: boolean;
}): TrainCommand {
  const overrides = asked.settings.map(readOverride);
  const { config: file, resume: run } = asked;
  if (run !== false) return { ...resume(run, file, overrides), allowChanged: asked.allowChanged ?? false };
  return { config: resolveConfig([...configSources(file), ...overrides]), resume: false, changed: [] };
}

/** `configs/<name>.yaml` of this package, as seen from the working directory. */
export function packagedConfig(name: string): string {
  const full = join(packageFolder, "configs", `${name}.yaml`);
  const short = relative(process.cwd(), full);
  return short.startsWith("..") ? full : short;
}

/** The help page of the trainer, with the settings that people set, or all. */
export function trainHelp(all = false): string {
  return `${argumentsHelp(trainSpec)}
Settings, as key=value on the command line or in a YAML file (which may start from another by \`extends: FILE\`;
{package} in a path stands for the folder ZeroSearch is installed in):

${keysHelp({ all })}
${all ? "" : "These are the settings that most people set; --help all shows all of them.\n"}Example: node train.js --config configs/smoke.yaml seed=2 train.steps=10
`;
}

function configSources(file = packagedConfig("quickstart")): readonly Source[] {
  return readYaml(file);
}

function resume(run: string | true, file: string | undefined, overrides: readonly Source[]): TrainCommand {
  // Only where the runs are and what this one is called is asked here; other settings are for the run's own configuration.
  const places = overrides.filter(({ tree }) => "output" in tree || "name" in tree);
  const asked = resolveConfig([...configSources(file), ...places]);
  // A folder of a run says both where the runs are and what this one is called.
  const inside = run !== true && (existsSync(join(run, runConfigFile)) || /[\\/]/.test(run));
  const folder = inside ? dirname(run) : asked.output.runs;
  const name = run === true ? newestRunName(folder, asked.name) : inside ? basename(run) : run;
  const savedFile = join(folder, name, runConfigFile);
  if (!existsSync(savedFile)) throw noSuchRun(folder, name);
  const saved = readYaml(savedFile).map(({ tree }) => savedSource(tree, savedFile));
  const before = resolveConfig(saved);
  const resolved = resolveConfig([...(file === undefined ? saved : readYaml(file)), ...overrides]);
  // Read where the run is, and written there: who gave another folder of runs has moved it.
  const after: Config = { ...resolved, name, output: { ...resolved.output, runs: folder } };
  return { config: after, resume: true, changed: changedKeys({ ...before, name }, after) };
}

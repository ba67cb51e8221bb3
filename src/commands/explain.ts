/** `zerosearch explain`: why a run diverged. */
import { existsSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { noSuchRun, readOverride, runConfigFile, type ArgumentSpec } from "../config/index.ts";
import { divergenceText } from "../run/divergence-text.ts";
import { divergenceFile, readDump } from "../run/diverged.ts";
import { outputFolders, runConfig } from "../run/find-policy.ts";
import { ConfigError } from "../util/errors.ts";
import { readArguments, say } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch explain",
  summary:
    "Says why a run diverged: which rollout, token and tensor was not finite first, the metrics of the steps before, and what is done about it. RUN is its name in output.runs, or its folder.",
  words: ["RUN"],
  options: { json: { doc: "Prints what the run left of it as JSON, whole." } },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec);
  if (read === null) return;
  const {
    words: [run],
    options,
    settings,
  } = read;
  if (run === undefined)
    throw new ConfigError({ where: spec.program, what: "no run is named", expected: "zerosearch explain RUN", got: "nothing" });
  const overrides = settings.map(readOverride);
  // As --resume takes it: a folder of a run, or a name.
  const inside = existsSync(join(run, runConfigFile)) || /[\\/]/.test(run);
  const runs = inside ? dirname(resolve(run)) : outputFolders(overrides).runs;
  const name = inside ? basename(resolve(run)) : run;
  const folder = join(runs, name);
  if (!existsSync(join(folder, runConfigFile))) throw noSuchRun(runs, name, spec.program);
  const dump = readDump(folder);
  if (dump === null)
    throw new ConfigError({
      where: `run ${name}`,
      what: "has left nothing to explain",
      expected: join(folder, divergenceFile),
      hint: "A run leaves it where an update is not finite, and takes it away when that step has gone well since; zerosearch runs says how runs stand.",
    });
  if (options.has("json")) say(JSON.stringify(dump, null, 1));
  else {
    const config = runConfig({ runs, name }, overrides, "train");
    say(divergenceText(dump, { ...config, output: { ...config.output, runs: inside ? dirname(run) : runs } }));
  }
}

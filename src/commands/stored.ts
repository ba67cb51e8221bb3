/** What a run or an evaluation has stored, for programs that read it: where it lies, and by which settings it was scored. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { readYaml, resolveConfig, runConfigFile, savedSource, type Config, type Source } from "../config/index.ts";
import { findKey } from "../config/keys.ts";
import { treeOf } from "../config/tree.ts";
import { gridFiles } from "../evaluation/folder.ts";
import { outputFolders } from "../run/find-policy.ts";
import { attempt, ConfigError } from "../util/errors.ts";

/** What stands for the policy, which nothing here needs. */
export const noModel = "(no model)";

/** A folder, or that of a run by its name. @throws ConfigError where it is neither */
export function findStored(given: string, overrides: readonly Source[], program: string): string {
  const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  const { runs } = outputFolders(overrides);
  const found = given === "" ? undefined : [given, join(runs, given)].find(isFolder);
  if (found !== undefined) return found;
  throw new ConfigError({
    where: `${program} ${given}`,
    what: "there is no such folder, and no such run",
    expected: `a folder, or a run in ${runs}`,
  });
}

/** How the rollouts of a folder were made and scored, as far as it says so, and settings over it. */
export function storedConfig(folder: string, overrides: readonly Source[]): Config {
  const model: Source = { tree: { model: { policy: noModel } }, locate: () => undefined };
  const ofRun = join(folder, runConfigFile);
  const saved = existsSync(ofRun)
    ? readYaml(ofRun).map(({ tree }) => savedSource(tree, ofRun))
    : evaluationSettings(join(folder, gridFiles.settings));
  return resolveConfig([model, ...saved, ...overrides], "compare");
}

/** Of an evaluation, what its settings say of scores and of the room that a turn had. */
function evaluationSettings(file: string): Source[] {
  const values = existsSync(file) ? attempt(() => JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>, {}) : {};
  return Object.entries(values)
    .filter(
      ([name]) =>
        (/^(reward|compat|evaluation)\./.test(name) || ["seed", "rollout.maxNewTokens"].includes(name)) && findKey(name) !== undefined,
    )
    .map(([name, value]) => ({ tree: treeOf(name.split("."), value), locate: () => file }));
}

/** Algorithms by name: `algorithm.name` stands for the settings in `configs/algorithms/<name>.yaml`. */
import { join } from "node:path";
import { presetNames } from "../rl/settings.ts";
import { packageFolder } from "./package-folder.ts";
import { readYaml, type Source } from "./source.ts";
import { valueIn } from "./tree.ts";

/**
 * The sources with those of the preset that is named last among them. It comes right before the source that names it: what stands beside the
 * name, or is given later, wins over the preset, and the preset over what was given before. Presets named earlier are not read: nothing of them,
 * such as the faults of zerosearch-compat, is to be left under another name.
 */
export function withPresets(sources: readonly Source[]): Source[] {
  const named = sources.filter(({ tree }) => valueIn(tree, ["algorithm", "name"]) !== undefined).at(-1);
  return sources.flatMap((source) => {
    const known = source === named ? presetNames.find((preset) => preset === valueIn(source.tree, ["algorithm", "name"])) : undefined;
    return known === undefined ? [source] : [...readYaml(presetFile(known)), source];
  });
}

/** The file of a preset. */
export function presetFile(name: string): string {
  return join(packageFolder, "configs", "algorithms", `${name}.yaml`);
}

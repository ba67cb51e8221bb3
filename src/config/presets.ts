/** Algorithms by name: `algorithm.name` stands for the settings in `configs/algorithms/<name>.yaml`. */
import { join } from "node:path";
import { presetNames } from "../rl/settings.ts";
import { packageFolder } from "./package-folder.ts";
import { readYaml, type Source } from "./source.ts";
import { valueIn } from "./tree.ts";

/**
 * The sources with those of the presets that they name among them. A preset comes right before the source that names it: what stands beside the
 * name, or is given later, wins over the preset, and the preset over what was given before.
 */
export function withPresets(sources: readonly Source[]): Source[] {
  return sources.flatMap((source) => {
    const name = valueIn(source.tree, ["algorithm", "name"]);
    const known = presetNames.find((preset) => preset === name);
    return known === undefined ? [source] : [...readYaml(presetFile(known)), source];
  });
}

/** The file of a preset. */
export function presetFile(name: string): string {
  return join(packageFolder, "configs", "algorithms", `${name}.yaml`);
}

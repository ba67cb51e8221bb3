/** Algorithms by name: `algorithm.name` stands for the settings in `configs/algorithms/<name>.yaml`. */
import { join } from "node:path";
import { presetNames } from "../rl/settings.ts";
import { packageFolder } from "./package-folder.ts";
import { readYaml, type Source } from "./source.ts";
import { valueIn } from "./tree.ts";

/**
 * The sources with those of the preset that is named last among them. It comes right before the source that names it: what stands beside the
 * name, or is given later, wins over the preset, and the preset over what was given before. Presets named earlier are not read: nothing of them,
 * such as the faults of zerosearch-compat, is to be left under another name. A command line is one source: the order of its settings says nothing.
 */
export function withPresets(sources: readonly Source[]): Source[] {
  const named = sources.filter(({ tree }) => valueIn(tree, ["algorithm", "name"]) !== undefined).at(-1);
  const known = presetNames.find((preset) => preset === valueIn(named?.tree ?? {}, ["algorithm", "name"]));
  if (known === undefined) return [...sources];
  const place = named?.override === true ? sources.find(({ override }) => override === true) : named;
  return sources.flatMap((source) => (source === place ? [...readYaml(presetFile(known)), source] : [source]));
}

/** The file of a preset. */
export function presetFile(name: string): string {
  return join(packageFolder, "configs", "algorithms", `${name}.yaml`);
}

/** Sets of prompts, `configs/prompts/<name>.yaml`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { packageFolder } from "../config/index.ts";

export interface PromptSet {
  /** By the dialects' names. */
  readonly policy: Readonly<Record<string, string>>;
  readonly simulator: string;
}

export function promptSet(name: string): PromptSet {
  return parse(readFileSync(join(packageFolder, "configs", "prompts", `${name}.yaml`), "utf8")) as PromptSet;
}

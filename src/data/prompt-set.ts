/** Sets of prompts, `configs/prompts/<name>.yaml`. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";

export interface PromptSet {
  /** By the dialects' names. */
  readonly policy: Readonly<Record<string, string>>;
  readonly simulator: string;
}

export function promptSet(name: string): PromptSet {
  return parse(readFileSync(new URL(`../../configs/prompts/${name}.yaml`, import.meta.url), "utf8")) as PromptSet;
}

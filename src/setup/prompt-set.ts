/** Sets of prompts, `configs/prompts/<name>.yaml`: texts by the dialects' names, and `simulator` for the simulator's. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { packageFolder } from "../config/index.ts";

export function promptSet(name: string): Readonly<Record<string, string>> {
  return parse(readFileSync(join(packageFolder, "configs", "prompts", `${name}.yaml`), "utf8")) as Record<string, string>;
}

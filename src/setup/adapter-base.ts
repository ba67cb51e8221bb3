/** Whether an adapter is loaded on the base that it was made for: on another of the same shape it computes something else, and nothing fails. */
import { existsSync, realpathSync } from "node:fs";
import { basename } from "node:path";
import { readAdapterConfig } from "../checkpoint/peft-config.ts";
import { attempt } from "../util/errors.ts";
import type { RolePlan, WeightsPlan } from "./model-roles.ts";

/** A line for each adapter that names another base. Adapters that cannot be read are left to whoever loads them. */
export async function foreignBases(copies: readonly WeightsPlan[]): Promise<string[]> {
  const lines: string[] = [];
  for (const role of copies.flatMap(({ roles }) => roles)) {
    const from = role.adapter?.from ?? null;
    if (from === null) continue;
    const base = await readAdapterConfig(from).then(
      ({ baseModel }) => baseModel,
      () => null,
    );
    if (base === null || base === "" || isSame(base, role)) continue;
    lines.push(
      `the ${role.role}'s adapter ${from} was made for ${base}, and is loaded on ${role.source}: on other weights it says something else`,
    );
  }
  return lines;
}

/** A folder that is here is that one; of others, which were moved, and of names on the Hub the last part tells. */
function isSame(base: string, { source, folder }: Pick<RolePlan, "source" | "folder">): boolean {
  if (base === source) return true;
  if (existsSync(base)) return attempt(() => realpathSync(base), base) === folder;
  return [source, folder].some((one) => basename(one).toLowerCase() === basename(base).toLowerCase());
}

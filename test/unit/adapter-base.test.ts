import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { foreignBases } from "../../src/setup/adapter-base.ts";
import type { WeightsPlan } from "../../src/setup/model-roles.ts";

const root = realpathSync(mkdtempSync(join(tmpdir(), "zerosearch-base-")));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const folder = (name: string): string => {
  const made = join(root, name);
  mkdirSync(made, { recursive: true });
  return made;
};

/** What is said of an adapter for `base` on these weights. */
async function saidOf(base: unknown, weights: { readonly source: string; readonly folder: string }): Promise<string[]> {
  const from = folder("adapter");
  const fields = { peft_type: "LORA", r: 8, lora_alpha: 16, target_modules: ["q_proj"], base_model_name_or_path: base };
  writeFileSync(join(from, "adapter_config.json"), JSON.stringify(fields));
  const role = { role: "policy", ...weights, dtype: "f32", learns: false, maxPositions: 8, adapter: { from, learns: false } } as const;
  return foreignBases([{ ...role, roles: [role] } satisfies WeightsPlan]);
}

it("says nothing of an adapter on the base that it names: by its folder, by its Hub id, moved elsewhere, or where it names none", async () => {
  const own = folder("here/policy");
  expect(await saidOf(own, { source: own, folder: own })).toEqual([]);
  expect(await saidOf(join(root, "here", ".", "policy"), { source: "policy", folder: own })).toEqual([]);
  expect(await saidOf("/gone/Policy", { source: own, folder: own })).toEqual([]);
  expect(await saidOf("Qwen/Qwen2.5-3B", { source: "Qwen/Qwen2.5-3B", folder: folder("snapshots/abc") })).toEqual([]);
  expect(await saidOf("Qwen/Qwen2.5-3B", { source: folder("models/qwen2.5-3b"), folder: folder("models/qwen2.5-3b") })).toEqual([]);
  expect(await saidOf(null, { source: own, folder: own })).toEqual([]);
});

it("tells of one on another base, also where both are called alike", async () => {
  const [own, other] = [folder("here/policy"), folder("there/policy")];
  expect(await saidOf(own, { source: "there", folder: other })).toEqual([
    `the policy's adapter ${join(root, "adapter")} was made for ${own}, and is loaded on there: on other weights it says something else`,
  ]);
  expect(await saidOf("Qwen/Qwen2.5-3B", { source: "Qwen/Qwen2.5-3B-Instruct", folder: folder("snapshots/abc") })).toHaveLength(1);
});

it("leaves adapters that cannot be read to whoever loads them", async () => {
  expect(await saidOf(7, { source: "x", folder: folder("x") })).toEqual([]);
  writeFileSync(join(folder("adapter"), "adapter_config.json"), "{");
  const role = { role: "policy", source: "x", folder: root, dtype: "f32", learns: false, maxPositions: 8 } as const;
  const broken = { ...role, adapter: { from: join(root, "adapter"), learns: false } };
  expect(await foreignBases([{ ...broken, roles: [broken] }])).toEqual([]);
});

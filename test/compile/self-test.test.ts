/** The self-test's cases use what runs use: each tier's kernels are among their pipelines. */
import { describe, expect, it } from "vitest";
import { collect } from "../../src/device/webgpu/prepare.ts";
import { pipelinesOf } from "../../src/device/webgpu/self-test.ts";
import { selfTestCases } from "../../src/device/webgpu/self-test-cases.ts";
import { programOf } from "../helpers/model-program.ts";
import { models } from "./representative-calls.ts";
import { targets } from "./tiers.ts";

/** Kernels whose sums or rounding are easily wrong, and which a run does not go without, or what does the same by matrices. */
const important = [
  ["attention", "attention_matrix"],
  ["attention_paged", "attention_matrix"],
  ["attention_backward_query", "attention_backward_query_matrix"],
  ["attention_backward_key", "attention_backward_key_matrix"],
  ["kv_write"],
  ["rms_norm"],
  ["sample"],
  ["copy"],
];

describe.each(targets)("on an adapter with $name", ({ capabilities }) => {
  it.each(["f32", "f16"] as const)(
    "the cases, precision %s, use every file with which a tier's features are enabled, and the important kernels",
    async (precision) => {
      const cases = selfTestCases(precision, capabilities);
      expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
      const needs = await Promise.all(cases.map((test) => pipelinesOf(test, capabilities, precision)));
      const tested = needs.flatMap((one) => [...one.values()]);
      const kernels = new Set(tested.map(({ kernel }) => kernel));
      expect(important.filter((ways) => !ways.some((kernel) => kernels.has(kernel)))).toEqual([]);
      const options = { capabilities, precision, fuse: true };
      const used = await collect(options, programOf(models["Qwen2.5 0.5B, trained"]!));
      const tiered = [...used.values()].filter(({ enables = [] }) => enables.length > 0).map(({ kernel }) => kernel);
      expect(tiered.filter((kernel) => !kernels.has(kernel))).toEqual([]);
    },
  );
});

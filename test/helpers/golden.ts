/** The trained 260 K-parameter model and its golden numbers, if this machine has them. */
import { existsSync, readFileSync } from "node:fs";

const data = new URL("../../../shared/data/", import.meta.url);

/** Folder of a real small model in Hugging Face layout: stories260K-hf or stories260K-qwen2. */
export function modelFolder(name: string): string {
  return new URL(`models/${name}`, data).pathname;
}

const goldenFile = new URL("golden/stories260K_golden.json", data);

/** False where the shared data is absent: tests that need it are then shown as skipped. */
export const hasGolden = existsSync(goldenFile);
if (!hasGolden && process.env["REQUIRE_GOLDEN"] === "1")
  throw new Error(`${goldenFile.pathname} is missing, and REQUIRE_GOLDEN=1 asks for it`);

interface Golden {
  /** Begin-of-sequence and 200 greedily sampled ids. */
  readonly greedy_ids_from_BOS_200new: readonly number[];
  readonly teacher_forced_first64: {
    readonly input_ids: readonly number[];
    readonly logits_pos0: readonly number[];
    readonly logits_last_position: readonly number[];
    /** 63: of input_ids[t + 1] after input_ids[.. t]. */
    readonly logprob_of_next: readonly number[];
    readonly entropy: readonly number[];
  };
}

export function golden(): Golden {
  return JSON.parse(readFileSync(goldenFile, "utf8")) as Golden;
}

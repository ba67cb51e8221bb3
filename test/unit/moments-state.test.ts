import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { saveAdapter } from "../../src/checkpoint/peft.ts";
import type { Checkpoint } from "../../src/checkpoint/run-state.ts";
import type { AdamW } from "../../src/optim/adamw.ts";
import type { MomentKind } from "../../src/optim/moments.ts";
import type { Model } from "../../src/setup/open-model.ts";
import { States, type StatesRun } from "../../src/run/states.ts";
import { tinyConfigs, tinyDecoder } from "../helpers/tiny-model.ts";
import { ReferenceDevice } from "../reference/device.ts";

/** A state that says what its moments are, or, as those of older programs, nothing. */
function stateOf(moments: MomentKind | null): Checkpoint {
  const state = { extra: moments === null ? {} : { moments } };
  return { folder: "checkpoints/run/step-000100", state, part: (name: string) => name } as unknown as Checkpoint;
}

function statesOf(policy: Model, moments: MomentKind): States {
  const made = { method: { name: "zerosearch" }, engine: { name: "simulated" }, reward: { name: "f1" } };
  const config = { name: "run", output: { runs: "runs", checkpoints: "checkpoints" } };
  const parts = { policy, optimizer: { moments } as AdamW, lossScaler: null, critic: null, engines: { adaptiveNoise: null } };
  return new States({ ...made, ...parts, config, inputs: {} } as unknown as StatesRun);
}

describe("a saved state", () => {
  it.each([
    ["8bit", "f32"],
    ["f32", "bf16"],
    [null, "8bit"],
  ] as const)("whose moments are %s is not taken up where they are to be %s, and the error says how to go on", async (saved, wanted) => {
    const restored = statesOf({} as Model, wanted).restore(stateOf(saved));
    const kind = saved ?? "f32";
    await expect(restored).rejects.toThrow(
      `checkpoints/run/step-000100: its moments are of another kind; expected optimizer.moments=${wanted}, got ${kind}`,
    );
    await expect(restored).rejects.toThrow(`Go on with optimizer.moments=${kind}`);
  });

  it.each([
    ["lora.alpha=16", { rank: 2, alpha: 16 }, "an adapter of rank 2 and alpha 16"],
    ["lora.rank=4", { rank: 4, alpha: 8 }, "an adapter of rank 4 and alpha 8"],
    ["lora.rank=0", null, "all weights"],
  ] as const)("of an adapter is not taken up with %s", async (_, now, wanted) => {
    const folder = await mkdtemp(join(tmpdir(), "state-"));
    try {
      const decoder = tinyDecoder(tinyConfigs.llama, new ReferenceDevice());
      decoder.addAdapter("before", { rank: 2, alpha: 8, seed: 1 });
      await saveAdapter(decoder, "before", join(folder, "policy"), { baseModel: "base" });
      if (now !== null) decoder.addAdapter("now", { ...now, seed: 1 });
      const policy = { decoder, adapter: now === null ? undefined : "now" } as Model;
      const state = { ...stateOf("f32"), part: (name: string) => join(folder, name) };
      await expect(statesOf(policy, "f32").restore(state)).rejects.toThrow(
        `holds an adapter of rank 2 and alpha 8 of a policy, while this run trains ${wanted}\n  Go on with the lora settings`,
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

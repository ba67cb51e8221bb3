import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/run-state.ts";
import type { AdamW } from "../../src/optim/adamw.ts";
import type { MomentKind } from "../../src/optim/moments.ts";
import type { Model } from "../../src/setup/open-model.ts";
import { restoreState } from "../../src/setup/run-states.ts";

/** A state that says what its moments are, or, as those of older programs, nothing. */
function stateOf(moments: MomentKind | null): Checkpoint {
  const state = { extra: moments === null ? {} : { moments } };
  return { folder: "checkpoints/run/step-000100", state, part: (name: string) => name } as unknown as Checkpoint;
}

describe("a saved state", () => {
  it.each([
    ["8bit", "f32"],
    ["f32", "bf16"],
    [null, "8bit"],
  ] as const)("whose moments are %s is not taken up where they are to be %s, and the error says how to go on", async (saved, wanted) => {
    const restored = restoreState(stateOf(saved), {} as Model, { moments: wanted } as AdamW, null);
    const kind = saved ?? "f32";
    await expect(restored).rejects.toThrow(
      `checkpoints/run/step-000100: its moments are of another kind; expected optimizer.moments=${wanted}, got ${kind}`,
    );
    await expect(restored).rejects.toThrow(`Go on with optimizer.moments=${kind}`);
  });
});

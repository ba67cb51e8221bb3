/** Every bench of the WebGPU device, the yardsticks first, then what matters most: a budget may end before the list does. */
import type { Bench } from "../bench.js";
import { attentionBenches } from "./attention.js";
import { copyBenches } from "./copy.js";
import { decodeBenches, generateBenches } from "./decode.js";
import { gemmBenches, squareBenches } from "./gemm.js";
import { prefillBenches } from "./prefill.js";
import { rlBenches } from "./rl-step.js";
import { bubbleBenches } from "./bubbles.js";
import { adamwBenches, trainBenches } from "./train.js";
import type { MakeBenches, World } from "./world.js";

/** These need answers that are right. */
const computing: readonly MakeBenches[] = [generateBenches, rlBenches, bubbleBenches];

export function gpuBenches(world: World): Bench[] {
  const all: readonly MakeBenches[] = [
    copyBenches,
    squareBenches,
    decodeBenches,
    prefillBenches,
    trainBenches,
    generateBenches,
    attentionBenches,
    adamwBenches,
    rlBenches,
    bubbleBenches,
    gemmBenches,
  ];
  return all.filter((make) => !world.options.dry || !computing.includes(make)).flatMap((make) => make(world));
}

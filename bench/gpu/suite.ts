/** Every bench of the WebGPU device, the yardsticks first, then what matters most: a budget may end before the list does. */
import type { Bench } from "../bench.js";
import { attentionBenches } from "./attention.js";
import { copyBenches } from "./copy.js";
import { decodeBenches, generateBenches } from "./decode.js";
import { gemmBenches, squareBenches } from "./gemm.js";
import { prefillBenches } from "./prefill.js";
import { rlBenches } from "./rl-step.js";
import { adamwBenches, trainBenches } from "./train.js";
import type { World } from "./world.js";

export function gpuBenches(world: World): Bench[] {
  return [copyBenches, squareBenches, decodeBenches, prefillBenches, trainBenches, generateBenches, attentionBenches, adamwBenches, gemmBenches, rlBenches].flatMap(
    (make) => make(world),
  );
}

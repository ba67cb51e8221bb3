/**
 * Dynamic loss scaling. Where the operands of matrix products are f16, gradients of activations below 2^-24 would vanish; so the loss is
 * multiplied by a power of two, and the gradients of the weights, which are f32, are divided by it again: exactly, both times.
 *
 * A scale that is too large shows as a norm that is not finite: that step is skipped and the scale halved. After many good steps in a
 * row it is doubled. Source: Micikevicius et al. 2018, "Mixed precision training" (arXiv 1710.03740), section 3.2; the constants are
 * those of PyTorch's GradScaler.
 */
import { ConfigError } from "../util/errors.ts";

/**
 * With the loss a mean over 2^10 to 2^16 tokens, gradients of logits start at 2^-10 to 2^-16 and fall from there; times 2^16 they lie
 * around 1, with 24 binary orders below them and 16 above before f16 ends.
 */
const firstScale = 2 ** 16;
/** Far from where f32 gradients, or the squares in their norm, would overflow themselves. */
const largestScale = 2 ** 24;
/** Good steps in a row after which the scale is doubled. */
const growAfter = 2000;

/** What a saved run must hold to go on with the same scales: plain JSON. */
export interface LossScalerState {
  readonly scale: number;
  /** Steps since the scale last changed, or a step was skipped. */
  readonly good: number;
  /** Steps skipped, ever. */
  readonly skipped: number;
}

export interface LossScalerOptions {
  /** First scale, a power of two. Default 2^16. */
  readonly scale?: number;
  /** Good steps in a row after which it is doubled. Default 2000. */
  readonly growAfter?: number;
}

export class LossScaler {
  readonly #growAfter: number;
  #current: LossScalerState;

  /** @throws ConfigError for a scale that is no power of two from 1 to 2^24. */
  constructor(options: LossScalerOptions = {}) {
    this.#growAfter = options.growAfter ?? growAfter;
    this.#current = checked({ scale: options.scale ?? firstScale, good: 0, skipped: 0 });
  }

  /** What the loss is to be multiplied by. */
  get scale(): number {
    return this.#current.scale;
  }

  /** Steps skipped so far. */
  get skipped(): number {
    return this.#current.skipped;
  }

  /**
   * How a step ended: `finite` tells whether its gradient norm was. Returns whether a step that failed may be blamed on the scale:
   * not where the scale is down to 1 already.
   */
  settle(finite: boolean): boolean {
    const { scale, good, skipped } = this.#current;
    if (!finite) {
      this.#current = { scale: Math.max(1, scale / 2), good: 0, skipped: skipped + 1 };
      return scale > 1;
    }
    const grows = good + 1 >= this.#growAfter;
    this.#current = { scale: grows ? Math.min(largestScale, 2 * scale) : scale, good: grows ? 0 : good + 1, skipped };
    return false;
  }

  state(): LossScalerState {
    return this.#current;
  }

  /** Goes on from a saved state. @throws ConfigError when it is none. */
  resume(state: LossScalerState): void {
    this.#current = checked(state);
  }
}

/** A scaler for a device that needs one, else null. */
export function lossScalerFor({ precision }: { readonly precision: "f32" | "f16" }): LossScaler | null {
  return precision === "f16" ? new LossScaler() : null;
}

function checked({ scale, good, skipped }: LossScalerState): LossScalerState {
  const count = (value: number): boolean => Number.isInteger(value) && value >= 0;
  if (!(scale >= 1 && scale <= largestScale && Number.isInteger(Math.log2(scale)) && count(good) && count(skipped)))
    throw new ConfigError({
      where: "LossScaler",
      what: "wrong state",
      expected: `a scale that is a power of two from 1 to ${largestScale}, and counts`,
      got: JSON.stringify({ scale, good, skipped }),
    });
  return { scale, good, skipped };
}

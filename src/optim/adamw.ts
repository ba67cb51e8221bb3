/** The optimiser: AdamW over named parameters, with the global norm clipped on the device. Source: Loshchilov & Hutter 2019, arXiv:1711.05101. */
import { adamw } from "../ops/adamw.ts";
import { clipGradNorm } from "../ops/clip-grad-norm.ts";
import { keep } from "../tensor/scope.ts";
import { full, type Parameter, type Tensor } from "../tensor/tensor.ts";
import { ConfigError, ZeroSearchError } from "../util/errors.ts";
import type { LossScaler } from "./loss-scaler.ts";

export interface ParameterGroup {
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly weightDecay: number;
  /** Factor on the learning rate of each step. 1 unless told. */
  readonly lrScale?: number;
}

export interface AdamWOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** Global norm that gradients are clipped to; 0 turns clipping off. */
  readonly maxGradNorm?: number;
  /**
   * The one place where gradients leave the process: called once a step with every gradient by name, after accumulation and before
   * the norm, and waited for. It changes them in place (a sum over processes).
   */
  readonly reduceGradients?: (gradients: ReadonlyMap<string, Tensor>) => Promise<void>;
  /**
   * For f16: whoever makes the loss multiplies it by `lossScale` (`update` and `fineTuneStep` do), and each step divides the gradients
   * by it again. The caller keeps its state with a run's. Null (the default): the scale is 1.
   */
  readonly lossScaler?: LossScaler | null;
}

/** How an update ended. */
export interface StepOutcome {
  /** Global norm of the gradients before clipping. NaN where it was not finite: then nothing has changed. */
  readonly gradNorm: number;
  /** What clipping multiplied the gradients by. */
  readonly clip: number;
  /** The update was skipped because of its loss scale, which is halved now: the next one may go well. */
  readonly overflowed: boolean;
}

/** Two groups: matrices decay; vectors (norms and biases) do not, unless `decay` is "all". */
export function decayGroups(
  parameters: ReadonlyMap<string, Parameter>,
  weightDecay: number,
  decay: "matrices" | "all" = "matrices",
): ParameterGroup[] {
  const decays = (parameter: Parameter): boolean => decay === "all" || parameter.shape.length > 1;
  const pick = (wanted: boolean): ReadonlyMap<string, Parameter> =>
    new Map([...parameters].filter(([, parameter]) => decays(parameter) === wanted));
  return [
    { parameters: pick(true), weightDecay },
    { parameters: pick(false), weightDecay: 0 },
  ].filter((group) => group.parameters.size > 0);
}

interface Slot {
  readonly parameter: Parameter;
  readonly m: Tensor;
  readonly v: Tensor;
  readonly weightDecay: number;
  readonly lrScale: number;
}

export class AdamW {
  private readonly slots = new Map<string, Slot>();
  private readonly options: Required<Omit<AdamWOptions, "reduceGradients" | "lossScaler">>;
  private readonly reduce: AdamWOptions["reduceGradients"];
  private readonly scaler: LossScaler | null;
  private clip: Tensor | null = null;
  private steps = 0;
  /** An update was asked for, and nobody has asked yet how it ended. */
  private unsettled = false;

  /**
   * Moments are made at once, zero; the caller disposes of them.
   * @throws ConfigError for a name given twice, a frozen parameter, or no parameters.
   */
  constructor(groups: readonly ParameterGroup[], options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, maxGradNorm = 1 } = options;
    this.options = { beta1, beta2, eps, maxGradNorm };
    this.reduce = options.reduceGradients;
    this.scaler = options.lossScaler ?? null;
    for (const { parameters, weightDecay, lrScale = 1 } of groups) {
      for (const [name, parameter] of parameters) {
        if (this.slots.has(name))
          throw new ConfigError({ where: "AdamW", what: `parameter "${name}" is in two groups`, expected: "each once" });
        if (!parameter.requiresGrad)
          throw new ConfigError({
            where: "AdamW",
            what: `parameter "${name}" is frozen`,
            expected: "trainable parameters",
            got: parameter.dtype,
          });
        const moment = (kind: string): Tensor => keep(full(parameter.device, parameter.shape, 0, { label: `${kind} of ${name}` }));
        this.slots.set(name, { parameter, m: moment("m"), v: moment("v"), weightDecay, lrScale });
      }
    }
    if (this.slots.size === 0)
      throw new ConfigError({ where: "AdamW", what: "no parameters to train", expected: "at least one", got: "none" });
  }

  /** Steps taken; an update that was skipped is none. */
  get step(): number {
    return this.steps;
  }

  /** What the loss of the next update must be multiplied by. */
  get lossScale(): number {
    return this.scaler?.scale ?? 1;
  }

  /** Updates skipped so far because of their loss scale. */
  get overflows(): number {
    return this.scaler?.skipped ?? 0;
  }

  /**
   * Asks for one update of every parameter that has a gradient, with learning rate `lr`. Nothing is read back: `settle` must follow.
   * Returns [1, 2] = (gradient norm before clipping, factor on the gradients, which also takes the loss scale out), which this optimiser
   * owns and replaces at the next step. Where the norm is not finite, weights and moments stay as they were.
   * @throws ZeroSearchError when the update before was not settled.
   */
  async update(lr: number): Promise<Tensor> {
    if (this.unsettled)
      throw new ZeroSearchError({
        where: "AdamW.update",
        what: "the update before is not settled",
        hint: "await settle() after each update",
      });
    const active = [...this.slots].filter(([, slot]) => slot.parameter.grad !== null);
    const gradients = new Map(active.map(([name, slot]) => [name, slot.parameter.grad!]));
    if (this.reduce !== undefined) await this.reduce(gradients);
    this.clip?.dispose();
    this.clip = keep(clipGradNorm([...gradients.values()], this.options.maxGradNorm, this.lossScale));
    const { beta1, beta2, eps } = this.options;
    const step = this.steps + 1;
    for (const [, { parameter, m, v, weightDecay, lrScale }] of active)
      adamw(parameter, parameter.grad!, m, v, this.clip, { lr: lr * lrScale, beta1, beta2, eps, weightDecay, step });
    this.unsettled = true;
    return this.clip;
  }

  /** Waits for the update asked for and counts it, or, where it was skipped, lowers the loss scale. */
  async settle(): Promise<StepOutcome> {
    if (!this.unsettled || this.clip === null)
      throw new ZeroSearchError({ where: "AdamW.settle", what: "no update was asked for", hint: "call update() before" });
    const { lossScale } = this;
    const [gradNorm = NaN, factor = NaN] = await this.clip.readFloats();
    const finite = Number.isFinite(gradNorm);
    if (finite) this.steps += 1;
    const overflowed = this.scaler?.settle(finite) ?? false;
    this.unsettled = false;
    return { gradNorm, clip: factor * lossScale, overflowed };
  }

  /** Sets every gradient to zero. */
  zeroGrad(): void {
    for (const { parameter } of this.slots.values()) parameter.zeroGrad();
  }

  /** What a checkpoint needs besides `step`: m.<name> and v.<name>, f32, still owned here. */
  stateTensors(): ReadonlyMap<string, Tensor> {
    const state = new Map<string, Tensor>();
    for (const [name, { m, v }] of this.slots) state.set(`m.${name}`, m).set(`v.${name}`, v);
    return state;
  }

  /** Goes on from a checkpoint, whose moments were written into `stateTensors`. */
  resume(step: number): void {
    if (!Number.isInteger(step) || step < 0)
      throw new ConfigError({ where: "AdamW.resume", what: "wrong step", expected: "a count of steps", got: String(step) });
    this.steps = step;
    this.unsettled = false;
  }

  /** Frees the moments; parameters and gradients stay. */
  dispose(): void {
    this.clip?.dispose();
    for (const { m, v } of this.slots.values()) {
      m.dispose();
      v.dispose();
    }
  }
}

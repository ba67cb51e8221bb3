/** The optimiser: AdamW over named parameters, with the global norm clipped on the device. Source: Loshchilov & Hutter 2019, arXiv:1711.05101. */
import { clipGradNorm } from "../ops/clip-grad-norm.ts";
import { keep } from "../tensor/scope.ts";
import { fromHost, type Parameter, type Tensor } from "../tensor/tensor.ts";
import { ConfigError, ZeroSearchError } from "../util/errors.ts";
import { philox, streamKey, type Words2 } from "../util/philox.ts";
import { momentTables, tableShape } from "./dynamic-map.ts";
import type { LossScaler } from "./loss-scaler.ts";
import { momentKind, momentKinds, StoredMoments, type MomentKind } from "./moments.ts";

export interface ParameterGroup {
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly weightDecay: number;
  /** Factor on the learning rate of an update; 1 unless told. */
  readonly rate?: number;
}

export interface AdamWOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** Global norm that gradients are clipped to; 0 turns clipping off. */
  readonly maxGradNorm?: number;
  /** How the moments of large matrices are stored (`momentKind`); all others are f32. Default f32. */
  readonly moments?: MomentKind;
  /** Of the random rounding of bf16 and 8-bit moments: seed, parameter, step and element decide how one is rounded. Default 0. */
  readonly seed?: number;
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
  /** The update was skipped because of its loss scale, which is halved now: the next one may go well. */
  readonly overflowed: boolean;
}

/** Two groups: matrices decay; vectors (norms and biases) do not. */
export function decayGroups(parameters: ReadonlyMap<string, Parameter>, weightDecay: number): ParameterGroup[] {
  const pick = (matrices: boolean): ReadonlyMap<string, Parameter> =>
    new Map([...parameters].filter(([, { shape }]) => shape.length > 1 === matrices));
  return [
    { parameters: pick(true), weightDecay },
    { parameters: pick(false), weightDecay: 0 },
  ].filter((group) => group.parameters.size > 0);
}

interface Slot {
  readonly parameter: Parameter;
  readonly moments: StoredMoments;
  /** Its place among all, for random numbers. */
  readonly number: number;
  readonly weightDecay: number;
  readonly rate: number;
}

export class AdamW {
  /** How the moments of large matrices are stored. A saved state can only be taken up by an optimiser of the same kind. */
  readonly moments: MomentKind;
  readonly #slots = new Map<string, Slot>();
  readonly #options: Required<Pick<AdamWOptions, "beta1" | "beta2" | "eps" | "maxGradNorm">>;
  readonly #randomKey: Words2;
  /** What 8-bit kernels look numbers up in; null without any. */
  readonly #tables: Tensor | null;
  readonly #reduce: AdamWOptions["reduceGradients"];
  readonly #scaler: LossScaler | null;
  #clip: Tensor | null = null;
  #steps = 0;
  /** An update was asked for, and nobody has asked yet how it ended. */
  #unsettled = false;

  /**
   * Moments are made at once, zero; the caller disposes of them.
   * @throws ConfigError for a name given twice, a frozen parameter, or no parameters.
   */
  constructor(groups: readonly ParameterGroup[], options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, maxGradNorm = 1, moments = "f32", seed = 0 } = options;
    if (!momentKinds.includes(moments))
      throw new ConfigError({ where: "AdamW", what: "unknown kind of moments", expected: momentKinds.join(", "), got: moments });
    this.moments = moments;
    this.#randomKey = streamKey(seed, "moments");
    this.#options = { beta1, beta2, eps, maxGradNorm };
    this.#reduce = options.reduceGradients;
    this.#scaler = options.lossScaler ?? null;
    for (const { parameters, weightDecay, rate = 1 } of groups) {
      for (const [name, parameter] of parameters) {
        if (this.#slots.has(name))
          throw new ConfigError({ where: "AdamW", what: `parameter "${name}" is in two groups`, expected: "each once" });
        if (!parameter.requiresGrad)
          throw new ConfigError({
            where: "AdamW",
            what: `parameter "${name}" is frozen`,
            expected: "trainable parameters",
            got: parameter.dtype,
          });
        const number = this.#slots.size;
        this.#slots.set(name, { parameter, moments: new StoredMoments(parameter, moments), number, weightDecay, rate });
      }
    }
    const all = [...this.#slots.values()].map(({ parameter }) => parameter);
    const [first] = all;
    if (first === undefined)
      throw new ConfigError({ where: "AdamW", what: "no parameters to train", expected: "at least one", got: "none" });
    this.#tables = all.some(({ shape }) => momentKind(shape, moments) === "8bit")
      ? keep(fromHost(first.device, momentTables(), tableShape, { label: "tables of 8-bit moments" }))
      : null;
  }

  /** Steps taken; an update that was skipped is none. */
  get step(): number {
    return this.#steps;
  }

  /** What the loss of the next update must be multiplied by. */
  get lossScale(): number {
    return this.#scaler?.scale ?? 1;
  }

  /** Updates skipped so far because of their loss scale. */
  get overflows(): number {
    return this.#scaler?.skipped ?? 0;
  }

  /**
   * Asks for one update of every parameter that has a gradient, with learning rate `lr`. Nothing is read back: `settle` must follow.
   * Returns [1, 2] = (gradient norm before clipping, factor on the gradients, which also takes the loss scale out), which this optimiser
   * owns and replaces at the next step. Where the norm is not finite, weights and moments stay as they were.
   * @throws ZeroSearchError when the update before was not settled.
   */
  async update(lr: number): Promise<Tensor> {
    if (this.#unsettled)
      throw new ZeroSearchError({
        where: "AdamW.update",
        what: "the update before is not settled",
        hint: "await settle() after each update",
      });
    const active = [...this.#slots].filter(([, slot]) => slot.parameter.grad !== null);
    const gradients = new Map(active.map(([name, slot]) => [name, slot.parameter.grad!]));
    if (this.#reduce !== undefined) await this.#reduce(gradients);
    this.#clip?.dispose();
    this.#clip = keep(clipGradNorm([...gradients.values()], this.#options.maxGradNorm, this.lossScale));
    const { beta1, beta2, eps } = this.#options;
    const step = this.#steps + 1;
    for (const [, { moments, number, weightDecay, rate }] of active) {
      const [key0, key1] = philox(this.#randomKey, [number, step, 0, 0]);
      moments.update(this.#clip, this.#tables, { lr: lr * rate, beta1, beta2, eps, weightDecay, step }, [key0, key1]);
    }
    this.#unsettled = true;
    return this.#clip;
  }

  /** Waits for the update asked for and counts it, or, where it was skipped, lowers the loss scale. */
  async settle(): Promise<StepOutcome> {
    if (!this.#unsettled || this.#clip === null)
      throw new ZeroSearchError({ where: "AdamW.settle", what: "no update was asked for", hint: "call update() before" });
    const [gradNorm = NaN] = await this.#clip.readFloats();
    const finite = Number.isFinite(gradNorm);
    if (finite) this.#steps += 1;
    const overflowed = this.#scaler?.settle(finite) ?? false;
    this.#unsettled = false;
    return { gradNorm, overflowed };
  }

  /** Sets every gradient to zero. */
  zeroGrad(): void {
    for (const { parameter } of this.#slots.values()) parameter.zeroGrad();
  }

  /** What a checkpoint needs besides `step`: m.<name>, v.<name> and, of 8 bits (u32 codes), scales.<name>; still owned here. */
  stateTensors(): ReadonlyMap<string, Tensor> {
    const state = new Map<string, Tensor>();
    for (const [name, { moments }] of this.#slots) for (const [part, tensor] of moments.tensors) state.set(`${part}.${name}`, tensor);
    return state;
  }

  /** Goes on from a checkpoint, whose moments were written into `stateTensors`. */
  resume(step: number): void {
    if (!Number.isInteger(step) || step < 0)
      throw new ConfigError({ where: "AdamW.resume", what: "wrong step", expected: "a count of steps", got: String(step) });
    this.#steps = step;
    this.#unsettled = false;
  }

  /** Frees the moments; parameters and gradients stay. */
  dispose(): void {
    this.#clip?.dispose();
    this.#tables?.dispose();
    for (const { moments } of this.#slots.values()) moments.dispose();
  }
}

/** AdamW's two moments of a parameter, in one of three kinds of storage. */
import type { Dtype } from "../device/device.ts";
import { adamw, adamwBf16, type AdamWStep } from "../ops/adamw.ts";
import { adamw8bit, shapes8bit } from "../ops/adamw-8bit.ts";
import { keep } from "../tensor/scope.ts";
import { elements, foldedCols, foldedRows, type Shape } from "../tensor/shape.ts";
import { empty, full, type Parameter, type Tensor } from "../tensor/tensor.ts";
import type { Words2 } from "../util/philox.ts";

/**
 * f32: 8 bytes a weight. bf16: 4, rounded at random. 8bit: 2.03 (2 codes, and 2 scales for 256 weights of a row), block-wise dynamic
 * quantisation (arXiv:2110.02861), rounded at random.
 */
export const momentKinds = ["f32", "bf16", "8bit"] as const;
export type MomentKind = (typeof momentKinds)[number];

/** Parameters of fewer elements keep f32 moments: they weigh nothing, and norms and biases are sensitive. */
const leastElements = 4096;
/** Matrices of fewer columns keep f32 moments where 8 bits were asked for: each row would have scales of its own for a few codes. */
const leastColumns = 64;

/**
 * What a parameter of this shape gets where `wanted` was asked for: f32 for vectors and other small ones. Embeddings are not excepted, as
 * they are in the paper: no block crosses a row here, so a rare token's moments never share a scale with a frequent one's.
 */
export function momentKind(shape: Shape, wanted: MomentKind): MomentKind {
  if (shape.length < 2 || elements(shape) < leastElements) return "f32";
  return wanted === "8bit" && foldedCols(shape) < leastColumns ? "f32" : wanted;
}

export interface MomentTensor {
  /** With a dot and the parameter's name, its name in a saved state. */
  readonly name: "m" | "v" | "scales";
  readonly shape: Shape;
  readonly dtype: Dtype;
}

/** The tensors that hold the moments of a parameter of this shape where `wanted` was asked for. */
export function momentTensors(shape: Shape, wanted: MomentKind): readonly MomentTensor[] {
  const kind = momentKind(shape, wanted);
  if (kind !== "8bit") return (["m", "v"] as const).map((name) => ({ name, shape, dtype: kind }));
  const { codes, scales } = shapes8bit(shape);
  return [
    { name: "m", shape: codes, dtype: "u32" },
    { name: "v", shape: codes, dtype: "u32" },
    { name: "scales", shape: scales, dtype: "f32" },
  ];
}

/** The moments of one parameter. Whoever made them disposes of them. */
export class StoredMoments {
  /** By name: m, v and, of 8 bits, scales. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly #parameter: Parameter;
  readonly #kind: MomentKind;

  /** Zero. */
  constructor(parameter: Parameter, wanted: MomentKind) {
    const { device, shape, label } = parameter;
    this.#parameter = parameter;
    this.#kind = momentKind(shape, wanted);
    this.tensors = new Map(
      momentTensors(shape, wanted).map(({ name, shape: own, dtype }) => {
        const options = { dtype, usage: "parameter", label: `${name} of ${label}` } as const;
        return [name, keep(dtype === "f32" ? full(device, own, 0, options) : zeroed(empty(device, own, options)))];
      }),
    );
  }

  /** One step of the parameter by its gradient. `tables` is there where any parameter has moments of 8 bits. */
  update(clip: Tensor, tables: Tensor | null, hyper: AdamWStep, key: Words2): void {
    const parameter = this.#parameter;
    const kind = this.#kind;
    const gradient = parameter.grad!;
    const [m, v, scales] = ["m", "v", "scales"].map((name) => this.tensors.get(name)) as [Tensor, Tensor, Tensor];
    if (kind === "8bit") adamw8bit(parameter, gradient, { m, v, scales }, tables!, clip, hyper, key);
    else if (kind === "bf16") adamwBf16(parameter, gradient, m, v, clip, hyper, key);
    else adamw(parameter, gradient, m, v, clip, hyper);
  }

  dispose(): void {
    for (const tensor of this.tensors.values()) tensor.dispose();
  }
}

/** Elements written at once. */
const pieceElements = 1 << 20;

/** Zero bits in every element. */
function zeroed(tensor: Tensor): Tensor {
  const [rows, cols] = [foldedRows(tensor.shape), foldedCols(tensor.shape)];
  const atOnce = Math.min(rows, Math.max(1, Math.floor(pieceElements / cols)));
  const zeros = tensor.dtype === "u32" ? new Uint32Array(atOnce * cols) : new Uint16Array(atOnce * cols);
  for (let row = 0; row < rows; row += atOnce) tensor.write(zeros.subarray(0, Math.min(atOnce, rows - row) * cols), row);
  return tensor;
}

/**
 * A tensor: a shape over one storage of a device. Row-major, contiguous, no views. It knows whether gradients are wanted and, for
 * a leaf (a parameter), holds the gradient; how gradients come about is the tape's business.
 */
import { dtypeBytes, type Device, type Dtype, type HostArray, type Storage, type Usage } from "../device/device.ts";
import type { KernelDims, KernelName } from "../device/kernels.ts";
import { ShapeError, ZeroSearchError } from "../util/errors.ts";
import { toElements, toFloats } from "./dtype.ts";
import { currentScope, Owned } from "./scope.ts";
import { checkShape, elements, foldedCols, foldedRows, formatShape, type Shape } from "./shape.ts";

export interface TensorOptions {
  /** f32 unless told. */
  readonly dtype?: Dtype | undefined;
  readonly usage?: Usage | undefined;
  /** Named in errors and memory reports. */
  readonly label?: string | undefined;
}

export class Tensor extends Owned {
  readonly device: Device;
  readonly shape: Shape;
  readonly dtype: Dtype;
  readonly label: string;
  /** Whether the tape follows it. Set on parameters; outputs of recorded ops have it. */
  requiresGrad = false;
  /** Gradient of a leaf, f32 and of the same shape: `backward` adds to it until `zeroGrad`. Owned by this tensor. */
  grad: Tensor | null = null;
  #memory: Storage | null;

  /** Contents are undefined. The running scope owns it, or the caller. Use `empty` or `fromHost`. */
  constructor(device: Device, shape: Shape, options: TensorOptions = {}) {
    super();
    const label = options.label ?? "tensor";
    checkShape(label, shape);
    this.device = device;
    this.shape = shape;
    this.dtype = options.dtype ?? "f32";
    this.label = label;
    this.#memory = device.allocate(foldedRows(shape), foldedCols(shape), this.dtype, options.usage ?? "activation", label);
    currentScope()?.adopt(this);
  }

  /** @throws ZeroSearchError after `dispose`. */
  get storage(): Storage {
    if (this.#memory === null)
      throw new ZeroSearchError({
        where: `tensor "${this.label}" ${formatShape(this.shape)}`,
        what: "used after it was freed",
        hint: "a scope frees what is neither returned nor kept, backward() what the tape recorded: return the tensor from withScope or withTape, or keep() it",
      });
    return this.#memory;
  }

  get disposed(): boolean {
    return this.#memory === null;
  }

  /** Rows of the storage: shape[0], or 1 for a vector. */
  get rows(): number {
    return foldedRows(this.shape);
  }

  get cols(): number {
    return foldedCols(this.shape);
  }

  get size(): number {
    return elements(this.shape);
  }

  /** Raw elements (f16 and bf16 as bits), after everything asked for before has run. */
  async read(): Promise<HostArray> {
    return this.device.read(this.storage);
  }

  /** Elements as f32. */
  async readFloats(): Promise<Float32Array> {
    return toFloats(await this.device.read(this.storage), this.dtype);
  }

  /** Writes all elements, or whole rows from `firstRow` on: numbers are converted, a Uint16Array is taken for f16 or bf16 bits. */
  write(values: ArrayLike<number>, firstRow = 0): void {
    const bytes = values.length * dtypeBytes[this.dtype];
    const [unit, room] = this.rows === 1 && values.length < this.cols ? [1, this.cols] : [this.cols, this.rows];
    if (values.length % unit !== 0 || firstRow + values.length / unit > room)
      throw new ShapeError({
        where: `write to "${this.label}"`,
        what: "data does not fit",
        expected: `rows of ${unit}, at most ${room - firstRow}`,
        got: `${values.length} elements (${bytes} bytes)`,
      });
    const raw = values instanceof Uint16Array && (this.dtype === "f16" || this.dtype === "bf16") ? values : toElements(values, this.dtype);
    this.device.write(this.storage, raw, firstRow);
  }

  /** Sets the gradient to zero, if there is one; its memory stays. */
  zeroGrad(): void {
    if (this.grad !== null) runKernel("fill", { value: 0 }, [], [this.grad]);
  }

  dispose(): void {
    if (this.#memory === null) return;
    this.scope?.forget(this);
    this.device.release(this.#memory);
    this.#memory = null;
    this.grad?.dispose();
    this.grad = null;
  }
}

/** A weight of a model: it outlives every scope, has a name, and its gradient is kept between steps. */
export class Parameter extends Tensor {
  readonly name: string;

  /** Contents are undefined; the caller disposes of it. Trainable unless its dtype is not f32. */
  constructor(device: Device, name: string, shape: Shape, dtype: Dtype = "f32") {
    super(device, shape, { dtype, usage: "parameter", label: name });
    this.name = name;
    this.requiresGrad = dtype === "f32";
    this.scope?.forget(this);
  }
}

type Tensors = readonly (Tensor | null)[];

/** Asks the tensors' device for one kernel of the table in `device/kernels.ts`; an absent optional one is null. */
export function runKernel<K extends KernelName>(kernel: K, dims: KernelDims<K>, inputs: Tensors, outputs: Tensors): void {
  const { device } = [...outputs, ...inputs].find((tensor) => tensor !== null)!;
  const storage = (tensor: Tensor | null): Storage | null => (tensor === null ? null : tensor.storage);
  device.run(kernel, dims, inputs.map(storage), outputs.map(storage));
}

/** A tensor of undefined contents. */
export function empty(device: Device, shape: Shape, options?: TensorOptions): Tensor {
  return new Tensor(device, shape, options);
}

/** A tensor with every element set to `value`, a number (not bits) whatever the dtype. */
export function full(device: Device, shape: Shape, value: number, options?: TensorOptions): Tensor {
  const tensor = new Tensor(device, shape, options);
  // The kernel writes f32 only.
  if (tensor.dtype === "f32") runKernel("fill", { value }, [], [tensor]);
  else tensor.write(new Array<number>(tensor.size).fill(value));
  return tensor;
}

/**
 * A tensor with these elements. Without a dtype, a Uint32Array gives u32 and anything else f32.
 * @throws ShapeError when the number of elements is not that of the shape.
 */
export function fromHost(device: Device, values: ArrayLike<number>, shape: Shape, options: TensorOptions = {}): Tensor {
  const dtype = options.dtype ?? (values instanceof Uint32Array ? "u32" : "f32");
  checkShape(options.label ?? "fromHost", shape);
  if (values.length !== elements(shape))
    throw new ShapeError({
      where: `fromHost "${options.label ?? "tensor"}"`,
      what: "wrong number of elements",
      expected: `${elements(shape)} for ${formatShape(shape)}`,
      got: String(values.length),
    });
  const tensor = new Tensor(device, shape, { ...options, dtype });
  tensor.write(values);
  return tensor;
}

/**
 * One call checks an op: its forward and backward on a device against the float64 reference, and the backward on the reference
 * against central differences of its forward.
 */
import { expect } from "vitest";
import type { Device, Dtype } from "../../src/device/device.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { elements, type Shape } from "../../src/tensor/shape.ts";
import { record, withTape } from "../../src/tensor/tape.ts";
import { empty, fromHost, type Tensor } from "../../src/tensor/tensor.ts";
import { philox } from "../../src/util/philox.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { liveTensors } from "./live-tensors.ts";
import { roundTo } from "./round-to.ts";

export interface OpInput {
  readonly shape: Shape;
  /** f32 unless told; u32 inputs need `values`. */
  readonly dtype?: Dtype;
  /** Random in [-1, 1) unless told. */
  readonly values?: ArrayLike<number>;
  /** Whether its gradient is checked: f32 inputs without `values` unless told. */
  readonly grad?: boolean;
}

export interface OpCase<Names extends string> {
  readonly inputs: Readonly<Record<Names, OpInput>>;
  /** The op; returns its output or outputs. */
  readonly run: (inputs: Readonly<Record<Names, Tensor>>) => Tensor | readonly Tensor[];
  /** The output is a loss, whose first element is differentiated. */
  readonly loss?: boolean;
  /** Largest error of the device, relative to 1 + the largest value. 1e-5 unless told. */
  readonly tolerance?: number;
}

/** Numbers in [-1, 1), the same for the same arguments, exact in f32. */
export function randomValues(count: number, seed: number): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 4) {
    const words = philox([seed, 77], [i, 0, 0, 0]);
    for (let j = 0; j < 4 && i + j < count; j++) out[i + j] = (words[j]! >>> 8) * 2 ** -23 - 1;
  }
  return out;
}

/** A loss whose gradient with respect to each output is given: sum of outputs * seeds. */
function seededLoss(outputs: readonly Tensor[], seeds: readonly Tensor[]): Tensor {
  const loss = empty(outputs[0]!.device, [1]);
  record({
    op: "seeded loss",
    inputs: outputs,
    outputs: [loss],
    loss: true,
    backward(gradients) {
      outputs.forEach((output, i) => {
        if (gradients.needs(output)) gradients.pass(output, seeds[i]!);
      });
    },
  });
  return loss;
}

interface Evaluated {
  readonly outputs: readonly Tensor[];
  readonly gradients: ReadonlyMap<string, Tensor>;
  readonly inputs: Readonly<Record<string, Tensor>>;
}

function valuesOf(inputs: Readonly<Record<string, OpInput>>): Map<string, ArrayLike<number>> {
  return new Map(
    Object.entries(inputs).map(([name, input], i) => [
      name,
      input.values ?? Array.from(randomValues(elements(input.shape), i + 1), (x) => roundTo(x, input.dtype ?? "f32")),
    ]),
  );
}

function wantsGrad(input: OpInput): boolean {
  return input.grad ?? (input.values === undefined && (input.dtype ?? "f32") === "f32");
}

function makeInputs(
  device: Device,
  spec: Readonly<Record<string, OpInput>>,
  values: ReadonlyMap<string, ArrayLike<number>>,
): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(spec).map(([name, input]) => {
      const tensor = fromHost(device, Array.from(values.get(name)!), input.shape, { dtype: input.dtype, label: name });
      tensor.requiresGrad = wantsGrad(input);
      return [name, tensor];
    }),
  );
}

function list(outputs: Tensor | readonly Tensor[]): readonly Tensor[] {
  return Array.isArray(outputs) ? (outputs as readonly Tensor[]) : [outputs as Tensor];
}

function evaluate(device: Device, opCase: OpCase<string>, values: ReadonlyMap<string, ArrayLike<number>>): Evaluated {
  const inputs = makeInputs(device, opCase.inputs, values);
  const { tape, value } = withTape(() => {
    const outputs = list(opCase.run(inputs));
    const root =
      opCase.loss === true
        ? outputs[0]!
        : seededLoss(
            outputs,
            outputs.map((output, i) => fromHost(device, randomValues(output.size, 100 + i), output.shape)),
          );
    return { outputs, root };
  });
  const gradients = new Map<string, Tensor>();
  if (Object.values(opCase.inputs).some(wantsGrad)) backward(tape, value.root);
  for (const [name, tensor] of Object.entries(inputs)) if (tensor.grad !== null) gradients.set(name, tensor.grad);
  return { outputs: value.outputs, gradients, inputs };
}

/** Largest difference, relative to 1 + the largest expected value; NaN anywhere is infinite. */
export function relativeError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]!));
    const difference = Math.abs(got[i]! - expected[i]!);
    worst = Number.isNaN(difference) ? Infinity : Math.max(worst, difference);
  }
  return got.length === expected.length ? worst / (1 + largest) : Infinity;
}

function checkCentralDifferences(
  opCase: OpCase<string>,
  values: ReadonlyMap<string, ArrayLike<number>>,
  reference: ReferenceDevice,
  analytic: ReadonlyMap<string, Tensor>,
): void {
  const step = 1e-5;
  const inputs = makeInputs(reference, opCase.inputs, values);
  const scalar = (): number =>
    withScope(() => {
      const outputs = list(opCase.run(inputs));
      if (opCase.loss === true) return reference.peek(outputs[0]!.storage)[0]!;
      return outputs.reduce((sum, output, i) => {
        const seed = randomValues(output.size, 100 + i);
        return sum + reference.peek(output.storage).reduce((part, x, j) => part + x * seed[j]!, 0);
      }, 0);
    });
  for (const [name, gradient] of analytic) {
    const expected = reference.peek(gradient.storage);
    const place = reference.peek(inputs[name]!.storage);
    // All elements of small inputs, some of large ones: a stride that is no divisor of any shape here.
    for (let i = 0; i < place.length; i += Math.max(1, Math.floor(place.length / 24))) {
      const before = place[i]!;
      place[i] = before + step;
      const above = scalar();
      place[i] = before - step;
      const below = scalar();
      place[i] = before;
      const difference = (above - below) / (2 * step);
      expect(
        Math.abs(difference - expected[i]!),
        `central difference of ${name}[${i}]: ${difference}, backward says ${expected[i]}`,
      ).toBeLessThan(1e-6 * (1 + Math.abs(difference)));
    }
  }
  for (const tensor of Object.values(inputs)) tensor.dispose();
}

/** Checks forward, backward and central differences, and that nothing is left on the device. */
export async function checkOp<Names extends string>(device: Device, opCase: OpCase<Names>): Promise<void> {
  const plain = opCase as unknown as OpCase<string>;
  const tolerance = opCase.tolerance ?? 1e-5;
  const reference = new ReferenceDevice();
  const values = valuesOf(plain.inputs);
  const before = liveTensors(device);
  const expected = withScope(() => evaluate(reference, plain, values));
  const got = withScope(() => evaluate(device, plain, values));
  checkCentralDifferences(plain, values, reference, expected.gradients);
  for (const [i, output] of got.outputs.entries()) {
    expect(output.shape).toEqual(expected.outputs[i]!.shape);
    const error = relativeError(await output.readFloats(), reference.peek(expected.outputs[i]!.storage));
    expect(error, `error of output ${i}`).toBeLessThan(tolerance);
  }
  expect([...got.gradients.keys()]).toEqual([...expected.gradients.keys()]);
  for (const [name, gradient] of got.gradients) {
    const error = relativeError(await gradient.readFloats(), reference.peek(expected.gradients.get(name)!.storage));
    expect(error, `error of the gradient of ${name}`).toBeLessThan(tolerance);
  }
  for (const tensor of [...Object.values(got.inputs), ...got.outputs]) tensor.dispose();
  expect(liveTensors(device), "tensors left on the device").toEqual(before);
}

/** Outputs and gradients of the op on a device, in the order of their names. */
export async function opResults<Names extends string>(device: Device, opCase: OpCase<Names>): Promise<Float32Array[]> {
  const plain = opCase as unknown as OpCase<string>;
  const { outputs, gradients, inputs } = withScope(() => evaluate(device, plain, valuesOf(plain.inputs)));
  const results: Float32Array[] = [];
  for (const tensor of [...outputs, ...gradients.values()]) results.push(Float32Array.from(await tensor.readFloats()));
  for (const tensor of [...Object.values(inputs), ...outputs]) tensor.dispose();
  return results;
}

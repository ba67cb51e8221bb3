import { describe, expect, it } from "vitest";
import { add } from "../../src/ops/add.ts";
import { weightedNll } from "../../src/ops/cross-entropy.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { rmsNorm } from "../../src/ops/rms-norm.ts";
import { swiglu } from "../../src/ops/swiglu.ts";
import { backward } from "../../src/tensor/backward.ts";
import { checkpoint } from "../../src/tensor/checkpoint.ts";
import { keep, Scope, withScope } from "../../src/tensor/scope.ts";
import { withoutTape, withTape } from "../../src/tensor/tape.ts";
import { fromHost, full, Parameter, type Tensor } from "../../src/tensor/tensor.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { liveTensors } from "../helpers/live-tensors.ts";

function leaf(device: ReferenceDevice, values: readonly number[], shape: readonly number[]): Tensor {
  const tensor = fromHost(device, values, shape);
  tensor.requiresGrad = true;
  return tensor;
}

const values = (device: ReferenceDevice, tensor: Tensor): number[] => [...device.peek(tensor.storage)];

describe("the tape", () => {
  it("gives 2x + 3 for x^2 + 3x summed over rows, by hand", () => {
    const device = new ReferenceDevice();
    // y = x x + 3 x for a 1 x 1 matrix: dy/dx = 2 x + 3.
    const x = leaf(device, [5], [1, 1]);
    const three = fromHost(device, [3], [1, 1]);
    const { tape, value } = withTape(() => add(matmul(x, x), matmul(x, three)));
    backward(tape, value, { seed: fromHost(device, [1], [1, 1]) });
    expect(values(device, value)).toEqual([40]);
    expect(values(device, x.grad!)).toEqual([13]);
    expect(three.grad).toBeNull();
  });

  it("adds to gradients until they are set to zero, in memory that is made once", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [2], [1, 1]);
    const seed = fromHost(device, [1], [1, 1]);
    const step = (): void => {
      const { tape, value } = withTape(() => matmul(x, x));
      backward(tape, value, { seed });
      value.dispose();
    };
    step();
    const memory = x.grad;
    step();
    expect(values(device, x.grad!)).toEqual([8]);
    x.zeroGrad();
    step();
    expect(values(device, x.grad!)).toEqual([4]);
    expect(x.grad).toBe(memory);
  });

  it("frees what it recorded as it walks: only leaves, gradients and what was returned are left", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [1, 2, 3, 4], [2, 2]);
    const weight = leaf(device, [1, 1], [2]);
    const before = liveTensors(device).tensors;
    const { tape, value } = withTape(() => {
      const normed = rmsNorm(add(x, x), weight, 1e-5);
      return { root: swiglu(matmul(normed, normed), normed), normed };
    });
    const seed = fromHost(device, [1, 1, 1, 1], [2, 2]);
    backward(tape, value.root, { seed });
    expect(liveTensors(device).tensors).toBe(before + 2 /* returned */ + 2 /* gradients */ + 1 /* seed */);
    expect(value.normed.disposed).toBe(false);
    for (const tensor of [value.root, value.normed, seed]) tensor.dispose();
    expect(liveTensors(device).tensors).toBe(before + 2);
  });

  it("frees everything when it is thrown away, when recording fails, and with the scope around it", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [2], [1, 1]);
    const { tape, value } = withTape(() => matmul(add(x, x), x));
    value.dispose();
    tape.dispose();
    expect(() =>
      withTape(() => {
        matmul(x, x);
        throw new Error("in the middle");
      }),
    ).toThrow("in the middle");
    withScope(() => {
      withTape(() => matmul(add(x, x), x));
    });
    expect(liveTensors(device).tensors).toBe(1);
  });

  it("owns what scopes inside the recording return, also where no scope is around it and no backward reads it", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [2], [1, 1]);
    const seed = fromHost(device, [1], [1, 1]);
    const step = (): void => {
      const { tape, value } = withTape(() => {
        const inner = withScope(() => matmul(x, x));
        return add(inner, inner);
      });
      backward(tape, value, { seed });
      value.dispose();
    };
    step();
    expect(liveTensors(device).tensors).toBe(3);
    withScope(() => {
      step();
      expect(liveTensors(device).tensors).toBe(3);
    });
  });

  it("keeps unrecorded tensors that a recorded op reads, though a scope inside the recording made them", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [3], [1, 1]);
    const { tape, value } = withTape(() => withScope(() => matmul(fromHost(device, [7], [1, 1]), x)));
    backward(tape, value, { seed: fromHost(device, [1], [1, 1]) });
    expect(values(device, x.grad!)).toEqual([7]);
  });

  it("records nothing inside withoutTape, and nothing where no input wants a gradient", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [3], [1, 1]);
    const y = fromHost(device, [3], [1, 1]);
    const { tape } = withTape(() => {
      withoutTape(() => matmul(x, x));
      matmul(y, y);
    });
    expect(tape.nodes).toHaveLength(0);
  });

  it("refuses a second walk, a stranger, a missing seed and a seed of another shape, saying which", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [3], [1, 1]);
    const seed = fromHost(device, [1], [1, 1]);
    const { tape, value } = withTape(() => matmul(x, x));
    expect(() => {
      backward(tape, x, { seed });
    }).toThrow(/was not recorded on this tape/);
    expect(() => {
      backward(tape, value);
    }).toThrow(/must start from a loss or with its gradient; expected a seed \[1, 1\], got none/);
    expect(() => {
      backward(tape, value, { seed: fromHost(device, [1, 1], [2]) });
    }).toThrow(/got \[2\]/);
    backward(tape, value, { seed });
    expect(() => {
      backward(tape, value, { seed });
    }).toThrow(/the tape is empty/);
  });

  it("starts from a loss without a seed", () => {
    const device = new ReferenceDevice();
    const logProbs = leaf(device, [-1, -2], [2]);
    const { tape, value } = withTape(() => weightedNll(logProbs, fromHost(device, [1, 3], [2])));
    backward(tape, value);
    expect(values(device, logProbs.grad!)).toEqual([-1, -3]);
  });

  it("says what to do when a freed tensor is used", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [3], [1, 1]);
    let inner: Tensor | null = null;
    const { tape, value } = withTape(() => {
      inner = add(x, x);
      return matmul(inner, x);
    });
    backward(tape, value, { seed: fromHost(device, [1], [1, 1]) });
    expect(() => add(inner!, x)).toThrow(
      /tensor "add" \[1, 1\]: used after it was freed\n.*return the tensor from withScope or withTape, or keep\(\) it/,
    );
  });

  it("gives with checkpoint the gradients of plain recording, for inputs and for parameters hidden inside", () => {
    const run = (recompute: boolean): number[][] => {
      const device = new ReferenceDevice();
      const x = leaf(device, [1, -2, 0.5, 3], [2, 2]);
      const weight = new Parameter(device, "weight", [2, 2]);
      weight.write([0.3, -0.7, 1.1, 0.2]);
      const block = (input: Tensor): Tensor => add(input, swiglu(matmul(input, weight), input));
      const { tape, value } = withTape(() =>
        withScope(() => {
          const first = recompute ? checkpoint(block, [x]) : block(x);
          return recompute ? checkpoint(block, [first]) : block(first);
        }),
      );
      backward(tape, value, { seed: fromHost(device, [1, 2, 3, 4], [2, 2]) });
      return [values(device, value), values(device, x.grad!), values(device, weight.grad!)];
    };
    expect(run(true)).toEqual(run(false));
  });

  it("keeps of a checkpointed stretch its output only", () => {
    const device = new ReferenceDevice();
    const x = leaf(device, [1, 2, 3, 4], [2, 2]);
    const { tape, value } = withTape(() => checkpoint((input) => matmul(add(matmul(input, input), input), input), [x]));
    expect(liveTensors(device).tensors).toBe(2);
    value.dispose();
    tape.dispose();
  });
});

describe("scopes", () => {
  it("free what was made inside, except what is returned (in arrays, maps and objects too) or kept", () => {
    const device = new ReferenceDevice();
    const result = withScope(() => {
      const made = [0, 1, 2, 3, 4].map((value) => full(device, [1], value));
      return { one: made[1]!, list: [made[2]!], map: new Map([["three", made[3]!]]), kept: keep(made[4]!), number: 5 };
    });
    expect(liveTensors(device).tensors).toBe(4);
    for (const tensor of [result.one, ...result.list, ...result.map.values(), result.kept]) tensor.dispose();
    expect(liveTensors(device)).toEqual({ tensors: 0, bytes: 0 });
  });

  it("pass what is returned to the scope around, and free it there", () => {
    const device = new ReferenceDevice();
    withScope(() => {
      withScope(() => full(device, [1], 1));
      expect(liveTensors(device).tensors).toBe(1);
    });
    expect(liveTensors(device).tensors).toBe(0);
  });

  it("free everything when the function throws", () => {
    const device = new ReferenceDevice();
    expect(() =>
      withScope(() => {
        full(device, [3], 1);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(liveTensors(device).tensors).toBe(0);
  });

  it("of their own live over waits, in pieces", async () => {
    const device = new ReferenceDevice();
    const scope = new Scope();
    const first = scope.run(() => full(device, [1], 2));
    await first.read();
    const second = scope.run(() => add(first, first));
    expect(await second.read()).toEqual(Float32Array.of(4));
    full(device, [1], 1).dispose();
    expect(scope.size).toBe(2);
    scope.dispose();
    expect(liveTensors(device).tensors).toBe(0);
  });

  it("refuse functions that wait, with the way to do it", () => {
    expect(() => withScope(async () => Promise.resolve(1))).toThrow(/the function waits.*got a promise\n.*make a Scope/s);
  });

  it("have no say over parameters", () => {
    const device = new ReferenceDevice();
    const parameter = withScope(() => ({ box: [new Parameter(device, "w", [2])] }).box[0]!);
    withScope(() => {
      new Parameter(device, "v", [2]);
    });
    expect(liveTensors(device).tensors).toBe(2);
    parameter.dispose();
    parameter.dispose();
    expect(liveTensors(device).tensors).toBe(1);
  });
});

describe("tensors", () => {
  it("fold their shapes into rows and columns", () => {
    const device = new ReferenceDevice();
    expect(
      [[5], [3, 4], [2, 3, 4]].map((shape) => {
        const t = full(device, shape, 0);
        return [t.rows, t.cols, t.size];
      }),
    ).toEqual([
      [1, 5, 5],
      [3, 4, 12],
      [2, 12, 24],
    ]);
  });

  it("refuse impossible shapes and data that does not fit", () => {
    const device = new ReferenceDevice();
    expect(() => full(device, [0, 3], 0)).toThrow(/not a shape; expected one or more positive integers, got \[0, 3\]/);
    expect(() => fromHost(device, [1, 2, 3], [2, 2], { label: "x" })).toThrow(
      /fromHost "x": wrong number of elements; expected 4 for \[2, 2\], got 3/,
    );
    expect(() => {
      full(device, [2, 2], 0).write([1, 2], 2);
    }).toThrow(/data does not fit/);
    expect(() => {
      full(device, [2, 2], 0).write([1, 2, 3]);
    }).toThrow(/data does not fit/);
  });
});

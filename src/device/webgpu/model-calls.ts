/** Every kernel call that a model makes, in the shapes that hosts tell apart: what `Device.prepare` compiles. */
import type { Device, Dtype, ModelShapes, Storage } from "../device.ts";

/** Rows of a decode batch or tokens of a prefill. Tiles vary with the row count. */
const pagedRows = [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 48, 64, 65, 96, 128, 129, 192, 256, 257, 384, 512, 1024, 2048, 4096, 8192, 16384];
/** Tokens of a micro-batch, and of its part that the policy sampled. */
const trainedRows = [1, 7, 16, 17, 64, 65, 100, 128, 256, 512, 1000, 1024, 2048, 4096, 8192, 16384];
/** Blocks of the longest sequence. */
const tableWidths = [1, 4, 32, 256];
const blockTokens = 64;
/** Rows that decode together. */
const mostRows = 1024;
const stopStates = 16;

type Linear = readonly [out: number, into: number, bias: boolean];

/** Calls of one model on one device, whose storages nobody tells apart. */
class Calls {
  readonly device: Device;
  private readonly shapes: ModelShapes;
  private readonly maxBytes: number;

  constructor(device: Device, shapes: ModelShapes, maxBytes: number) {
    this.device = device;
    this.shapes = shapes;
    this.maxBytes = maxBytes;
  }

  /** Those whose activations fit: more is refused when it is asked for. */
  rows(wanted: readonly number[]): readonly number[] {
    const { width, mlpWidth, heads, headDim } = this.shapes;
    const most = this.maxBytes / (4 * Math.max(width, mlpWidth, heads * headDim));
    return wanted.filter((rows) => rows <= most);
  }

  floats(rows: number, cols: number): Storage {
    return this.device.allocate(rows, cols, "f32", "activation", "activation");
  }
  words(rows: number, cols: number): Storage {
    return this.device.allocate(rows, cols, "u32", "activation", "words");
  }
  parameter(rows: number, cols: number, dtype: Dtype = this.shapes.weights): Storage {
    return this.device.allocate(rows, cols, dtype, "parameter", "parameter");
  }

  /** c = op(a) op(b) + bias, and again as a sum with what c holds where `sums`. */
  matmul(a: Storage, transA: 0 | 1, b: Storage, transB: 0 | 1, { bias = null as Storage | null, sums = false } = {}): Storage {
    const [M, K] = transA === 1 ? [a.cols, a.rows] : [a.rows, a.cols];
    const N = transB === 1 ? b.rows : b.cols;
    const c = this.floats(M, N);
    for (const accumulate of sums ? [0, 1] : [0]) this.device.run("matmul", { M, N, K, transA, transB, accumulate }, [a, b, bias], [c]);
    return c;
  }

  /** The projections of a layer by what they read: [out, in], and whether they have a bias. */
  linears(): { readonly qkv: readonly Linear[]; readonly output: Linear; readonly gateUp: readonly Linear[]; readonly down: Linear } {
    const { width: C, mlpWidth: F, heads: H, kvHeads: K, headDim: D, qkvBias, outputBias, mlpBias } = this.shapes;
    return {
      qkv: [
        [H * D, C, qkvBias],
        [K * D, C, qkvBias],
        [K * D, C, qkvBias],
      ],
      output: [C, H * D, outputBias],
      gateUp: [
        [F, C, mlpBias],
        [F, C, mlpBias],
      ],
      down: [C, F, mlpBias],
    };
  }

  /** Products of the same rows with several weights, one after another as a block does it: a device may do them together. */
  linear(x: Storage, weights: readonly Linear[]): void {
    const { loraRank } = this.shapes;
    for (const [out, into, bias] of weights)
      this.matmul(x, 0, this.parameter(out, into), 1, { bias: bias ? this.parameter(1, out) : null });
    if (loraRank === 0) return;
    for (const [out, into] of weights) {
      const narrow = this.scaled(this.matmul(x, 0, this.parameter(loraRank, into, "f32"), 1));
      this.matmul(narrow, 0, this.parameter(out, loraRank, "f32"), 1, { sums: true });
    }
  }

  scaled(x: Storage): Storage {
    const y = this.floats(x.rows, x.cols);
    this.device.run("fill", { value: 0 }, [], [y]);
    this.device.run("accumulate", { scale: 2 }, [x], [y]);
    return y;
  }

  /** Embedding, norms, projections, rotation and activation of N tokens, in a block's order: alike in sampling and in training. */
  forward(N: number): void {
    const { width: C, mlpWidth: F, heads: H, kvHeads: K, headDim: D, vocabulary: V, qkNorm } = this.shapes;
    const { qkv, output, gateUp, down } = this.linears();
    const x = this.floats(N, C);
    this.device.run("embedding", {}, [this.words(1, N), this.parameter(V, C)], [x]);
    this.linear(this.norm(x, 1), qkv);
    if (qkNorm) for (const heads of [H, K]) this.norm(this.floats(N, heads * D), heads);
    this.rope(N, 0);
    this.linear(this.floats(N, H * D), [output]);
    const h = this.floats(N, C);
    this.device.run("add", {}, [x, this.floats(N, C)], [h]);
    this.linear(this.norm(h, 1), gateUp);
    this.device.run("swiglu", {}, [this.floats(N, F), this.floats(N, F)], [this.floats(N, F)]);
    this.linear(this.floats(N, F), [down]);
    this.device.run("gather_rows", {}, [h, this.words(1, N)], [this.floats(N, C)]);
  }

  norm(x: Storage, groups: number): Storage {
    const y = this.floats(x.rows, x.cols);
    this.device.run("rms_norm", { groups, eps: 1e-6 }, [x, this.parameter(1, x.cols / groups)], [y, this.floats(x.rows, groups)]);
    return y;
  }

  /** Of queries, then of keys. */
  rope(N: number, inverse: 0 | 1): void {
    const { heads: H, kvHeads: K, headDim: D } = this.shapes;
    const [positions, table] = [this.words(1, N), this.floats(4096, D)];
    for (const heads of [H, K])
      this.device.run("rope", { heads, inverse }, [this.floats(N, heads * D), positions, table], [this.floats(N, heads * D)]);
  }
}

/** Decode and prefill: N tokens of B sequences against the cache. */
function paged(calls: Calls, { heads: H, kvHeads: K, headDim: D, width: C, vocabulary: V, cache }: ModelShapes): void {
  const { device } = calls;
  const keys = device.allocate(64, K * D * blockTokens, cache, "activation", "keys");
  const values = device.allocate(64, K * D * blockTokens, cache, "activation", "values");
  device.run("fill", { value: 0 }, [], [calls.floats(1, C)]);
  device.run("kv_copy", {}, [calls.words(1, 2)], [keys, values]);
  const head = calls.parameter(V, C);
  for (const N of calls.rows(pagedRows)) {
    calls.forward(N);
    // one sequence, several with a few tokens each, and a decode step
    for (const B of new Set([1, Math.ceil(N / 2), ...(N <= mostRows ? [N] : [])]))
      for (const width of tableWidths) {
        const [positions, offsets, table] = [calls.words(1, N), calls.words(1, B + 1), calls.words(B, width)];
        const kv = calls.floats(N, K * D);
        device.run("kv_write", { kvHeads: K }, [kv, kv, positions, offsets, table], [keys, values]);
        const q = calls.floats(N, H * D);
        const dims = { heads: H, kvHeads: K, scale: 1 };
        device.run("attention_paged", dims, [q, positions, offsets, table, keys, values], [calls.floats(N, H * D)]);
      }
    if (N > mostRows) continue; // tokens of a prefill need no logits
    const logits = calls.matmul(calls.floats(N, C), 0, head, 1);
    const words = (): Storage => calls.words(1, N);
    device.run("sample", {}, [logits, calls.floats(N, 4), calls.words(N, 5), words()], [words(), calls.floats(1, N)]);
    const state = [words(), words(), words(), words(), words(), calls.words(16, N), calls.floats(16, N)];
    device.run("advance", { step: 0 }, [words(), calls.floats(1, N), calls.words(stopStates, V), calls.words(1, stopStates)], state);
  }
}

/** Log-probabilities and losses of packed sequences: what a reference policy does too. */
function packed(calls: Calls, { heads: H, kvHeads: K, headDim: D, width: C, vocabulary: V, cache }: ModelShapes): void {
  const { device } = calls;
  const head = calls.parameter(V, C);
  for (const N of calls.rows(trainedRows)) {
    calls.forward(N);
    const [q, k, out] = [calls.floats(N, H * D), calls.floats(N, K * D), calls.floats(N, H * D)];
    if (cache !== "f32") device.run("round", { bits: cache === "f16" ? 16 : 17 }, [k], [calls.floats(N, K * D)]);
    for (const B of new Set([1, Math.ceil(N / 64)]))
      device.run("attention", { heads: H, kvHeads: K, scale: 1 }, [q, k, k, calls.words(1, B + 1)], [out, calls.floats(N, H)]);
    const vector = (): Storage => calls.floats(1, N);
    device.run("log_prob", { temperature: 1 }, [calls.floats(N, C), head, calls.words(1, N)], [vector(), vector(), vector()]);
  }
}

/** Backward passes of whatever learns. */
function backward(calls: Calls, shapes: ModelShapes): void {
  const { heads: H, kvHeads: K, headDim: D, width: C, mlpWidth: F, vocabulary: V, qkNorm, trains, loraRank } = shapes;
  const { device } = calls;
  const whole = trains === "weights";
  const head = calls.parameter(V, C);
  for (const N of calls.rows(trainedRows)) {
    const x = calls.floats(N, C);
    const vector = (): Storage => calls.floats(1, N);
    const policy = { clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0, scale: 1 };
    for (const reference of [null, vector()])
      device.run(
        "policy_loss",
        policy,
        [vector(), vector(), reference, vector(), vector(), vector()],
        [vector(), vector(), calls.floats(1, 8)],
      );
    device.run("weighted_nll", { scale: 1 }, [vector(), vector()], [vector(), calls.floats(1, 2)]);
    for (const dEntropy of [null, vector()])
      device.run(
        "log_prob_backward",
        { temperature: 1 },
        [x, head, calls.words(1, N), vector(), vector(), vector(), dEntropy],
        [calls.floats(N, C), whole ? calls.floats(V, C) : null],
      );
    device.run("scatter_rows", {}, [x, calls.words(1, N)], [calls.floats(N, C)]);
    const { qkv, output, gateUp, down } = calls.linears();
    for (const linear of [...qkv, output, ...gateUp, down]) linearBackward(calls, N, linear, whole, loraRank);
    for (const [cols, groups] of [
      [C, 1] as const,
      ...(qkNorm
        ? ([
            [H * D, H],
            [K * D, K],
          ] as const)
        : []),
    ]) {
      const y = calls.floats(N, cols);
      const inputs = [y, calls.parameter(1, cols / groups), calls.floats(N, groups), y];
      device.run("rms_norm_backward", { groups }, inputs, [calls.floats(N, cols), whole ? calls.floats(1, cols / groups) : null]);
    }
    calls.rope(N, 1);
    const wide = calls.floats(N, F);
    device.run("swiglu_backward", {}, [wide, wide, wide], [calls.floats(N, F), calls.floats(N, F)]);
    for (const B of new Set([1, Math.ceil(N / 64)])) {
      const [q, k] = [calls.floats(N, H * D), calls.floats(N, K * D)];
      const inputs = [q, k, k, calls.words(1, B + 1), q, calls.floats(N, H), q];
      const outputs = [calls.floats(N, H * D), calls.floats(N, K * D), calls.floats(N, K * D)];
      device.run("attention_backward", { heads: H, kvHeads: K, scale: 1 }, inputs, outputs);
    }
    if (whole) device.run("embedding_backward", {}, [calls.words(1, N), x], [calls.floats(V, C)]);
    device.run("accumulate", { scale: 1 }, [x], [calls.floats(N, C)]);
    device.run("copy", { fromRow: 0, toRow: 0, rows: N }, [x], [calls.floats(N, C)]);
  }
}

/** Gradients of y = x weight^T + bias, with a LoRA adapter where there is one. */
function linearBackward(calls: Calls, N: number, [out, into, bias]: Linear, whole: boolean, loraRank: number): void {
  const [x, dy] = [calls.floats(N, into), calls.floats(N, out)];
  calls.matmul(dy, 0, calls.parameter(out, into), 0, { sums: true });
  if (whole) {
    calls.matmul(dy, 1, x, 0, { sums: true });
    if (bias) calls.device.run("column_sum", {}, [dy], [calls.floats(1, out)]);
  }
  if (loraRank === 0) return;
  const narrow = calls.scaled(calls.matmul(dy, 0, calls.parameter(out, loraRank, "f32"), 0));
  calls.matmul(dy, 1, narrow, 0, { sums: true });
  calls.matmul(narrow, 1, x, 0, { sums: true });
  calls.matmul(narrow, 0, calls.parameter(loraRank, into, "f32"), 0, { sums: true });
}

/** Gradient norm and AdamW over parameters of every shape; small ones have f32 moments in any case. */
function optimiser(calls: Calls, { width: C, vocabulary: V, trains, loraRank, moments = "f32" }: ModelShapes): void {
  const { device } = calls;
  const { qkv, output, gateUp, down } = calls.linears();
  const sizes = [...qkv, output, ...gateUp, down].flatMap(([out, into]) =>
    trains === "weights"
      ? [
          [out, into],
          [1, out],
        ]
      : [
          [out, loraRank],
          [loraRank, into],
        ],
  );
  if (trains === "weights") sizes.push([V, C], [1, C]);
  const clip = calls.floats(1, 2);
  const acc = calls.floats(1, sizes.length);
  const settings = { lr: 1e-6, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, correction1: 0.1, correction2: 0.001 };
  for (const [rows, cols] of sizes as [number, number][]) {
    const [gradient, parameter] = [calls.floats(rows, cols), calls.parameter(rows, cols, "f32")];
    device.run("fill", { value: 0 }, [], [gradient]);
    device.run("sum_squares", { slot: 0 }, [gradient], [acc]);
    device.run("adamw", settings, [gradient, clip], [parameter, calls.floats(rows, cols), calls.floats(rows, cols)]);
    const random = { ...settings, key0: 1, key1: 2 };
    if (moments === "bf16") {
      const [m, v] = [calls.parameter(rows, cols, "bf16"), calls.parameter(rows, cols, "bf16")];
      device.run("adamw_bf16", random, [gradient, clip], [parameter, m, v]);
    }
    if (moments === "8bit") {
      const [m, v] = [calls.words(rows, Math.ceil(cols / 4)), calls.words(rows, Math.ceil(cols / 4))];
      const scales = calls.floats(rows, 2 * Math.ceil(cols / 256));
      device.run("adamw_8bit", random, [gradient, clip, calls.floats(3, 256)], [parameter, m, v, scales]);
    }
  }
  device.run("clip_scale", { count: sizes.length, maxNorm: 1, gradScale: 1 }, [acc], [clip]);
}

/**
 * Asks `device` for everything that a model of these shapes may ask for, with activations of up to `maxBytes`. Storages are not released:
 * meant for a `DryDevice`.
 */
export function modelCalls(device: Device, shapes: ModelShapes, maxBytes: number): void {
  const calls = new Calls(device, shapes, maxBytes);
  paged(calls, shapes);
  packed(calls, shapes);
  if (shapes.trains === "nothing") return;
  backward(calls, shapes);
  optimiser(calls, shapes);
}

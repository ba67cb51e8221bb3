/** Causal attention over packed sequences. Source: Dao et al. 2022, arXiv:2205.14135; grouped queries: Ainslie et al. 2023, arXiv:2305.13245. */
import type { Dtype } from "../device/device.ts";
import { record } from "../tensor/tape.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";
import { expectDivisor, expectDtype, expectMatrix, expectShape, expectVector, headWidth } from "./check.ts";
import { round } from "./round.ts";

export interface AttentionOptions {
  /** H. */
  readonly heads: number;
  /** K, a divisor of H. */
  readonly kvHeads: number;
  /** Factor on q k^T; 1 / sqrt(D) unless told. */
  readonly scale?: number;
  /** The cache's type: k and v are rounded to it first, so that training sees what sampling saw. f32 unless told. */
  readonly cacheDtype?: Dtype;
}

/**
 * q [N, H*D], k and v [N, K*D], offsets [B + 1] u32 -> [N, H*D]. Tokens offsets[b] .. offsets[b+1] - 1 are sequence b; each sees
 * itself and those before it in its sequence, in blocks of 64 from the sequence's first token, by the formula and in the order of
 * `attentionPaged`. No [T, T] matrix is made. Differentiable in q, k and v; rounding to `cacheDtype` passes gradients straight through.
 * @throws ShapeError
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, options: AttentionOptions): Tensor {
  const { heads, kvHeads, cacheDtype = "f32" } = options;
  expectMatrix("attention", "q", q);
  expectDivisor("attention", "kvHeads", kvHeads, "heads", heads);
  const D = headWidth("attention", q.cols, heads);
  for (const [name, tensor] of [
    ["k", k],
    ["v", v],
  ] as const)
    expectShape("attention", name, tensor, [q.rows, kvHeads * D]);
  expectVector("attention", "offsets", offsets);
  expectDtype("attention", "offsets", offsets, "u32");
  if (offsets.size < 2)
    throw new ShapeError({
      where: "attention",
      what: "offsets name no sequence",
      expected: "[B + 1], B at least 1",
      got: `[${offsets.size}]`,
    });
  const scale = options.scale ?? 1 / Math.sqrt(D);
  const dims = { heads, kvHeads, scale };
  const [kSeen, vSeen] = cacheDtype === "f16" || cacheDtype === "bf16" ? [round(k, cacheDtype), round(v, cacheDtype)] : [k, v];
  const out = empty(q.device, q.shape, { label: "attention" });
  const lse = empty(q.device, [q.rows, heads], { label: "attention lse" });
  q.device.run("attention", dims, [q.storage, kSeen.storage, vSeen.storage, offsets.storage], [out.storage, lse.storage]);
  record({
    op: "attention",
    inputs: [q, kSeen, vSeen],
    reads: [offsets],
    outputs: [out],
    saved: [lse],
    backward(gradients, [dout]) {
      if (dout === null || dout === undefined) return;
      const made = [q, kSeen, vSeen].map((input) => ({ input, gradient: gradients.make(input) }));
      const inputs = [q, kSeen, vSeen, offsets, out, lse, dout].map((tensor) => tensor.storage);
      q.device.run(
        "attention_backward",
        dims,
        inputs,
        made.map(({ gradient }) => gradient.storage),
      );
      for (const { input, gradient } of made) {
        if (gradients.needs(input)) gradients.give(input, gradient);
        else gradient.dispose();
      }
    },
  });
  return out;
}

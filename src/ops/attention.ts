/** Causal attention over packed sequences. Source: Dao et al. 2022, arXiv:2205.14135; grouped queries: Ainslie et al. 2023, arXiv:2305.13245. */
import type { Dtype } from "../device/device.ts";
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";
import { expectDivisor, expectMatrix, expectShape, expectVector, headWidth } from "./check.ts";
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
  for (const [name, tensor] of Object.entries({ k, v })) expectShape("attention", name, tensor, [q.rows, kvHeads * D]);
  expectVector("attention", "offsets", offsets, "u32");
  if (offsets.size < 2)
    throw new ShapeError({
      where: "attention",
      what: "offsets name no sequence",
      expected: "[B + 1], B at least 1",
      got: `[${offsets.size}]`,
    });
  const dims = { heads, kvHeads, scale: options.scale ?? 1 / Math.sqrt(D) };
  const [kSeen, vSeen] = cacheDtype === "f16" || cacheDtype === "bf16" ? [round(k, cacheDtype), round(v, cacheDtype)] : [k, v];
  const out = empty(q.device, q.shape, { label: "attention" });
  const lse = empty(q.device, [q.rows, heads], { label: "attention lse" });
  runKernel("attention", dims, [q, kSeen, vSeen, offsets], [out, lse]);
  record({
    op: "attention",
    inputs: [q, kSeen, vSeen],
    outputs: [out],
    holds: [q, kSeen, vSeen, offsets, out],
    saved: [lse],
    backward(gradients, [dout]) {
      const [dq, dk, dv] = [gradients.make(q), gradients.make(kSeen), gradients.make(vSeen)];
      runKernel("attention_backward", dims, [q, kSeen, vSeen, offsets, out, lse, dout!], [dq, dk, dv]);
      gradients.give(q, dq);
      gradients.give(kSeen, dk);
      gradients.give(vSeen, dv);
    },
  });
  return out;
}

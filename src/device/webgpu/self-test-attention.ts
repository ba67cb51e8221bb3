/** Attention of packed sequences in float64, row by row: what the self-test expects. */

export interface Heads {
  readonly H: number;
  readonly K: number;
  readonly D: number;
  readonly scale: number;
  readonly offsets: readonly number[];
}

/** Probabilities of token n's keys, from its sequence's first to itself, for query head h; and the log of what they were divided by. */
function probabilities({ H, K, D, scale }: Heads, q: Float64Array, k: Float64Array, first: number, n: number, h: number) {
  const head = Math.floor((h * K) / H);
  const s = Float64Array.from({ length: n - first + 1 }, (_, j) => {
    let sum = 0;
    for (let d = 0; d < D; d++) sum += q[(n * H + h) * D + d]! * k[((first + j) * K + head) * D + d]!;
    return sum * scale;
  });
  const top = s.reduce((a, b) => Math.max(a, b), -Infinity);
  const total = s.reduce((sum, value) => sum + Math.exp(value - top), 0);
  return { p: s.map((value) => Math.exp(value - top) / total), lse: top + Math.log(total) };
}

/** Calls `visit` for each token and query head with the first token of its sequence. */
function each({ H, offsets }: Heads, visit: (first: number, n: number, h: number) => void): void {
  for (let b = 0; b + 1 < offsets.length; b++)
    for (let n = offsets[b]!; n < offsets[b + 1]!; n++) for (let h = 0; h < H; h++) visit(offsets[b]!, n, h);
}

/** out [N, H*D] and lse [N, H]. */
export function attentionRows(heads: Heads, q: Float64Array, k: Float64Array, v: Float64Array) {
  const { H, K, D } = heads;
  const [out, lses] = [new Float64Array(q.length), new Float64Array(q.length / D)];
  each(heads, (first, n, h) => {
    const head = Math.floor((h * K) / H);
    const { p, lse } = probabilities(heads, q, k, first, n, h);
    lses[n * H + h] = lse;
    p.forEach((value, j) => {
      for (let d = 0; d < D; d++) out[(n * H + h) * D + d]! += value * v[((first + j) * K + head) * D + d]!;
    });
  });
  return { out, lse: lses };
}

/** dq, dk, dv for the gradient `dout` of the output: ds = p (dp - sum p dp), dp = dout v. */
export function attentionGradients(
  heads: Heads,
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  dout: Float64Array,
): readonly [Float64Array, Float64Array, Float64Array] {
  const { H, K, D, scale } = heads;
  const [dq, dk, dv] = [new Float64Array(q.length), new Float64Array(k.length), new Float64Array(v.length)];
  each(heads, (first, n, h) => {
    const head = Math.floor((h * K) / H);
    const { p } = probabilities(heads, q, k, first, n, h);
    const row = (n * H + h) * D;
    const at = (j: number): number => ((first + j) * K + head) * D;
    const dp = p.map((_, j) => {
      let sum = 0;
      for (let d = 0; d < D; d++) sum += dout[row + d]! * v[at(j) + d]!;
      return sum;
    });
    const mean = dp.reduce((sum, value, j) => sum + p[j]! * value, 0);
    p.forEach((value, j) => {
      const ds = value * (dp[j]! - mean) * scale;
      for (let d = 0; d < D; d++) {
        dq[row + d]! += ds * k[at(j) + d]!;
        dk[at(j) + d]! += ds * q[row + d]!;
        dv[at(j) + d]! += value * dout[row + d]!;
      }
    });
  });
  return [dq, dk, dv];
}

/** The kernels of `src/device/kernels.ts` in float64, written from their formulas. */
import type { KernelName } from "../../src/device/kernels.ts";
import { philox } from "../../src/util/philox.ts";
import { adamwKernels } from "./adamw-kernels.ts";
import { attentionKernels } from "./attention-kernels.ts";
import { dim, INACTIVE, logSumExp, need, type ReferenceKernel, type ReferenceTensor } from "./kernel-types.ts";
import { roundTo } from "../helpers/round-to.ts";

export type { ReferenceKernel, ReferenceTensor } from "./kernel-types.ts";

const silu = (x: number): number => x / (1 + Math.exp(-x));

/** Logits of one row over temperature. */
function rowLogits(hidden: ReferenceTensor, weight: ReferenceTensor, n: number, temperature: number): Float64Array {
  const z = new Float64Array(weight.rows);
  for (let v = 0; v < weight.rows; v++) {
    let sum = 0;
    for (let c = 0; c < weight.cols; c++) sum += hidden.values[n * hidden.cols + c]! * weight.values[v * weight.cols + c]!;
    z[v] = sum / temperature;
  }
  return z;
}

export const referenceKernels: Record<KernelName, ReferenceKernel> = {
  ...attentionKernels,
  ...adamwKernels,
  fill: (dims, _, [y]) => {
    need(y).values.fill(dim(dims, "value"));
  },
  copy: (dims, [x], [y]) => {
    const from = need(x);
    const into = need(y);
    into.values.set(
      from.values.subarray(dim(dims, "fromRow") * from.cols, (dim(dims, "fromRow") + dim(dims, "rows")) * from.cols),
      dim(dims, "toRow") * into.cols,
    );
  },
  round: (dims, [x], [y]) => {
    need(x).values.forEach((value, i) => {
      need(y).values[i] = roundTo(value, dim(dims, "bits") === 16 ? "f16" : "bf16");
    });
  },
  add: (_, [a, b], [y]) => {
    need(a).values.forEach((value, i) => {
      need(y).values[i] = value + need(b).values[i]!;
    });
  },
  accumulate: (dims, [x], [y]) => {
    need(x).values.forEach((value, i) => {
      need(y).values[i]! += dim(dims, "scale") * value;
    });
  },
  matmul: (dims, inputs, [c]) => {
    const [a, b, bias] = inputs;
    const [M, N, K] = [dim(dims, "M"), dim(dims, "N"), dim(dims, "K")];
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let sum = bias?.values[n] ?? 0;
        for (let k = 0; k < K; k++)
          sum +=
            need(a).values[dims["transA"] === 1 ? k * M + m : m * K + k]! * need(b).values[dims["transB"] === 1 ? n * K + k : k * N + n]!;
        need(c).values[m * N + n] = sum + (dims["accumulate"] === 1 ? need(c).values[m * N + n]! : 0);
      }
    }
  },
  column_sum: (_, [x], [y]) => {
    need(x).values.forEach((value, i) => {
      need(y).values[i % need(x).cols]! += value;
    });
  },
  embedding: (_, [ids, table], [y]) => {
    need(ids).values.forEach((id, n) => {
      need(y).values.set(need(table).values.subarray(id * need(table).cols, (id + 1) * need(table).cols), n * need(y).cols);
    });
  },
  embedding_backward: (_, [ids, dy], [dtable]) => {
    const C = need(dy).cols;
    need(ids).values.forEach((id, n) => {
      for (let c = 0; c < C; c++) need(dtable).values[id * C + c]! += need(dy).values[n * C + c]!;
    });
  },
  rms_norm: (dims, [x, weight], [y, rstd]) => {
    const groups = dim(dims, "groups");
    const D = need(x).cols / groups;
    for (let g = 0; g < need(x).rows * groups; g++) {
      const part = need(x).values.subarray(g * D, (g + 1) * D);
      const r = 1 / Math.sqrt(part.reduce((sum, value) => sum + value * value, 0) / D + dim(dims, "eps"));
      need(rstd).values[g] = r;
      part.forEach((value, d) => {
        need(y).values[g * D + d] = value * r * need(weight).values[d]!;
      });
    }
  },
  rms_norm_backward: (dims, [x, weight, rstd, dy], [dx, dweight]) => {
    const groups = dim(dims, "groups");
    const D = need(x).cols / groups;
    for (let g = 0; g < need(x).rows * groups; g++) {
      const r = need(rstd).values[g]!;
      let dot = 0;
      for (let d = 0; d < D; d++) dot += need(dy).values[g * D + d]! * need(weight).values[d]! * need(x).values[g * D + d]!;
      for (let d = 0; d < D; d++) {
        const [xi, gi] = [need(x).values[g * D + d]!, need(dy).values[g * D + d]!];
        need(dx).values[g * D + d] = r * (gi * need(weight).values[d]! - (xi * r * r * dot) / D);
        if (dweight !== null && dweight !== undefined) dweight.values[d]! += gi * xi * r;
      }
    }
  },
  rope: (dims, [x, positions, table], [y]) => {
    const heads = dim(dims, "heads");
    const D = need(x).cols / heads;
    const half = D / 2;
    for (let n = 0; n < need(x).rows; n++) {
      const position = need(positions).values[n]!;
      if (position === INACTIVE) continue;
      for (let h = 0; h < heads; h++) {
        for (let d = 0; d < half; d++) {
          const i = n * need(x).cols + h * D + d;
          const cos = need(table).values[position * D + d]!;
          const sin = need(table).values[position * D + half + d]! * (dims["inverse"] === 1 ? -1 : 1);
          const [a, b] = [need(x).values[i]!, need(x).values[i + half]!];
          need(y).values[i] = a * cos - b * sin;
          need(y).values[i + half] = b * cos + a * sin;
        }
      }
    }
  },
  swiglu: (_, [gate, up], [y]) => {
    need(gate).values.forEach((g, i) => {
      need(y).values[i] = silu(g) * need(up).values[i]!;
    });
  },
  swiglu_backward: (_, [gate, up, dy], [dgate, dup]) => {
    need(gate).values.forEach((g, i) => {
      const sigmoid = 1 / (1 + Math.exp(-g));
      need(dgate).values[i] = need(dy).values[i]! * need(up).values[i]! * sigmoid * (1 + g * (1 - sigmoid));
      need(dup).values[i] = need(dy).values[i]! * silu(g);
    });
  },
  gather_rows: (_, [x, indices], [y]) => {
    need(indices).values.forEach((row, i) => {
      need(y).values.set(need(x).values.subarray(row * need(x).cols, (row + 1) * need(x).cols), i * need(x).cols);
    });
  },
  scatter_rows: (_, [x, indices], [y]) => {
    const C = need(x).cols;
    need(indices).values.forEach((row, i) => {
      for (let c = 0; c < C; c++) need(y).values[row * C + c]! += need(x).values[i * C + c]!;
    });
  },
  log_prob: (dims, [hidden, weight, targets], [logProb, entropy, lse]) => {
    for (let n = 0; n < need(hidden).rows; n++) {
      const z = rowLogits(need(hidden), need(weight), n, dim(dims, "temperature"));
      const total = logSumExp(z);
      need(lse).values[n] = total;
      need(logProb).values[n] = z[need(targets).values[n]!]! - total;
      need(entropy).values[n] = total - z.reduce((sum, value) => sum + Math.exp(value - total) * value, 0);
    }
  },
  log_prob_backward: (dims, [hidden, weight, targets, , , dLogProb, dEntropy], [dhidden, dweight]) => {
    const [V, C] = [need(weight).rows, need(weight).cols];
    need(dhidden).values.fill(0);
    for (let n = 0; n < need(hidden).rows; n++) {
      const z = rowLogits(need(hidden), need(weight), n, dim(dims, "temperature"));
      const lse = logSumExp(z);
      const H = lse - z.reduce((sum, value) => sum + Math.exp(value - lse) * value, 0);
      const [g, h] = [need(dLogProb).values[n]!, dEntropy?.values[n] ?? 0];
      for (let v = 0; v < V; v++) {
        const p = Math.exp(z[v]! - lse);
        const dz = (g * ((v === need(targets).values[n] ? 1 : 0) - p) - h * p * (z[v]! - lse + H)) / dim(dims, "temperature");
        for (let c = 0; c < C; c++) {
          need(dhidden).values[n * C + c]! += dz * need(weight).values[v * C + c]!;
          if (dweight !== null && dweight !== undefined) dweight.values[v * C + c]! += dz * need(hidden).values[n * C + c]!;
        }
      }
    }
  },
  sequence_ratio: (_, [logProb, oldLogProb, offsets], [y]) => {
    const [now, before, starts] = [need(logProb).values, need(oldLogProb).values, need(offsets).values];
    for (let b = 0; b + 1 < starts.length; b++) {
      const [start, end] = [starts[b]!, starts[b + 1]!];
      const mean = now.subarray(start, end).reduce((sum, value, i) => sum + (value - before[start + i]!), 0) / (end - start);
      for (let n = start; n < end; n++) need(y).values[n] = now[n]! - mean;
    }
  },
  policy_loss: (dims, [logProb, oldLogProb, reference, entropy, advantage, weight], [dLogProb, dEntropy, stats]) => {
    const [low, high, klCoef, entropyCoef, scale] = ["clipLow", "clipHigh", "klCoef", "entropyCoef", "scale"].map((name) =>
      dim(dims, name),
    ) as [number, number, number, number, number];
    const s = need(stats).values;
    need(logProb).values.forEach((value, n) => {
      need(dLogProb).values[n] = 0;
      need(dEntropy).values[n] = 0;
      const w = need(weight).values[n]!;
      if (w === 0) return;
      const [A, H] = [need(advantage).values[n]!, need(entropy).values[n]!];
      const logRatio = value - need(oldLogProb).values[n]!;
      const ratio = Math.exp(logRatio);
      const held = Math.min(1 + high, Math.max(1 - low, ratio));
      const clipped = held * A < ratio * A;
      const form = dim(dims, "form"),
        dual = dim(dims, "dualClip");
      const factor = form === 1 ? held : 1;
      const bounded = form === 0 && dual > 0 && A < 0 && -Math.min(ratio * A, held * A) > -dual * A;
      const policy = form !== 0 ? -factor * A * value : bounded ? -dual * A : -Math.min(ratio * A, held * A);
      const slope = form !== 0 ? -factor * A : bounded || clipped ? 0 : -ratio * A;
      const toReference = reference === null || reference === undefined ? 0 : reference.values[n]! - value;
      const k3 = Math.exp(toReference) - 1 - toReference;
      const kind = dim(dims, "kl");
      const kl = kind === 1 ? -toReference : kind === 2 ? toReference ** 2 / 2 : k3;
      const klSlope = kind === 1 ? (reference ? 1 : 0) : kind === 2 ? -toReference : 1 - Math.exp(toReference);
      need(dLogProb).values[n] = scale * w * (slope + klCoef * klSlope);
      need(dEntropy).values[n] = -scale * w * entropyCoef;
      s[0]! += scale * w * (policy + klCoef * kl - entropyCoef * H);
      const [below, above] =
        form === 1 ? [ratio < 1 - low, ratio > 1 + high] : form === 0 ? [clipped && ratio < 1, clipped && ratio > 1] : [];
      s[1]! += below === true ? 1 : 0;
      s[2]! += above === true ? 1 : 0;
      s[8]! += bounded ? 1 : 0;
      s[3]! += -logRatio;
      s[4]! += k3;
      s[5]! += H;
      s[6] = Math.max(s[6]!, Math.abs(logRatio));
      s[7]! += 1;
    });
  },
  value_loss: (dims, [value, oldValue, returns, weight], [dValue, stats]) => {
    const [clip, scale] = [dim(dims, "clip"), dim(dims, "scale")];
    need(value).values.forEach((v, n) => {
      const [old, target, w] = [need(oldValue).values[n]!, need(returns).values[n]!, need(weight).values[n]!];
      need(dValue).values[n] = 0;
      if (w === 0) return;
      const plain = (v - target) ** 2;
      const bounded = clip === 0 ? plain : (Math.min(old + clip, Math.max(old - clip, v)) - target) ** 2;
      const clipped = bounded > plain;
      if (!clipped) need(dValue).values[n] = Number.isNaN(bounded) ? NaN : scale * w * (v - target);
      need(stats).values[0]! += (scale * w * Math.max(plain, bounded)) / 2;
      need(stats).values[1]! += clipped ? 1 : 0;
      need(stats).values[2]! += 1;
    });
  },
  weighted_nll: (dims, [logProb, weights], [dLogProb, stats]) => {
    need(weights).values.forEach((weight, n) => {
      need(dLogProb).values[n] = weight === 0 ? 0 : -dim(dims, "scale") * weight;
      if (weight === 0) return;
      need(stats).values[0]! -= dim(dims, "scale") * weight * need(logProb).values[n]!;
      need(stats).values[1]! += weight;
    });
  },
  sum_squares: (dims, [x], [acc]) => {
    need(acc).values[dim(dims, "slot")] = need(x).values.reduce((sum, value) => sum + value * value, 0);
  },
  clip_scale: (dims, [acc], [result]) => {
    const gradScale = dim(dims, "gradScale");
    const norm =
      Math.sqrt(
        need(acc)
          .values.subarray(0, dim(dims, "count"))
          .reduce((sum, value) => sum + value, 0),
      ) / gradScale;
    const max = dim(dims, "maxNorm");
    need(result).values[0] = Number.isFinite(norm) ? norm : NaN;
    need(result).values[1] = !Number.isFinite(norm) ? NaN : (max === 0 ? 1 : Math.min(1, max / (norm + 1e-6))) / gradScale;
  },
  sample: (_, [logits, settings, keys, positions], [ids, logProb]) => {
    const V = need(logits).cols;
    for (let r = 0; r < need(logits).rows; r++) {
      const position = need(positions).values[r]!;
      if (position === INACTIVE) continue;
      const [temperature, topK, topP] = [0, 1, 2].map((i) => need(settings).values[4 * r + i]!) as [number, number, number];
      const z = need(logits)
        .values.slice(r * V, (r + 1) * V)
        .map((value) => value / (temperature === 0 ? 1 : temperature));
      const lse = logSumExp(z);
      const order = Array.from(z.keys()).sort((a, b) => z[b]! - z[a]! || a - b);
      let kept = topK === 0 ? order : order.slice(0, topK);
      const mass = kept.reduce((sum, id) => sum + Math.exp(z[id]! - lse), 0);
      if (topP < 1) {
        let seen = 0;
        kept = kept.filter((id) => {
          const before = seen;
          seen += Math.exp(z[id]! - lse) / mass;
          return before < topP;
        });
      }
      const word = (i: number): number => need(keys).values[5 * r + i]!;
      const draw = (philox([word(0), word(1)], [word(2), word(3), word(4), position])[0] >>> 8) * 2 ** -24;
      const total = kept.reduce((sum, id) => sum + Math.exp(z[id]! - lse), 0);
      let id = kept[0]!;
      if (temperature !== 0) {
        // In order of id, as a device would walk the row.
        let rest = draw * total;
        for (const candidate of [...kept].sort((a, b) => a - b)) {
          id = candidate;
          rest -= Math.exp(z[candidate]! - lse);
          if (rest < 0) break;
        }
      }
      need(ids).values[r] = id;
      need(logProb).values[r] = z[id]! - lse;
    }
  },
  advance: (dims, inputs, outputs) => {
    const [ids, logProb, transitions, accepts] = inputs.map(need) as [ReferenceTensor, ReferenceTensor, ReferenceTensor, ReferenceTensor];
    const [last, positions, states, remaining, status, outIds, outLogProbs] = outputs.map(need) as [
      ReferenceTensor,
      ReferenceTensor,
      ReferenceTensor,
      ReferenceTensor,
      ReferenceTensor,
      ReferenceTensor,
      ReferenceTensor,
    ];
    const R = ids.values.length;
    for (let r = 0; r < R; r++) {
      const place = dim(dims, "step") * R + r;
      if (positions.values[r] === INACTIVE) {
        outIds.values[place] = INACTIVE;
        continue;
      }
      const id = ids.values[r]!;
      last.values[r] = id;
      states.values[r] = transitions.values[states.values[r]! * transitions.cols + id]!;
      remaining.values[r]! -= 1;
      positions.values[r]! += 1;
      outIds.values[place] = id;
      outLogProbs.values[place] = logProb.values[r]!;
      const code = accepts.values[states.values[r]!]! || (remaining.values[r] === 0 ? 1 : 0);
      if (code !== 0) {
        status.values[r] = code;
        positions.values[r] = INACTIVE;
      }
    }
  },
};

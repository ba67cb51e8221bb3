/** The attention kernels of `src/device/kernels.ts` in float64, with whole rows of scores. */
import type { KernelName } from "../../src/device/kernels.ts";
import { dim, INACTIVE, logSumExp, need, type ReferenceKernel, type ReferenceTensor } from "./kernel-types.ts";

/** Tokens of a cache block. */
const BLOCK = 64;

/** Sequence of packed token n. */
function sequenceOf(offsets: ReferenceTensor, n: number): number {
  let b = 0;
  while (offsets.values[b + 1]! <= n) b++;
  return b;
}

/** softmax(scale q k^T) and its log-sum-exp for one query over `count` keys. */
function scores(q: Float64Array, key: (t: number) => Float64Array, count: number, scale: number): { p: Float64Array; lse: number } {
  const s = new Float64Array(count);
  for (let t = 0; t < count; t++) {
    const k = key(t);
    for (let d = 0; d < q.length; d++) s[t]! += scale * q[d]! * k[d]!;
  }
  const lse = logSumExp(s);
  return { p: s.map((x) => Math.exp(x - lse)), lse };
}

/** Places of key or value element (head, position, d) in the cache. */
function cacheIndex(cache: ReferenceTensor, kind: "k" | "v", block: number, head: number, slot: number, d: number, D: number): number {
  return block * cache.cols + head * D * BLOCK + (kind === "k" ? d * BLOCK + slot : slot * D + d);
}

type AttentionKernel = Extract<KernelName, "attention" | "attention_backward" | "kv_write" | "kv_copy" | "attention_paged">;

export const attentionKernels: Record<AttentionKernel, ReferenceKernel> = {
  attention: (dims, [q, k, v, offsets], [out, lse]) => {
    const heads = dim(dims, "heads");
    const D = need(q).cols / heads;
    const width = need(k).cols;
    need(out).values.fill(0);
    for (let n = 0; n < need(q).rows; n++) {
      const first = need(offsets).values[sequenceOf(need(offsets), n)]!;
      for (let h = 0; h < heads; h++) {
        const kv = Math.floor((h * dim(dims, "kvHeads")) / heads);
        const row = n * heads * D + h * D;
        const { p, lse: value } = scores(
          need(q).values.subarray(row, row + D),
          (t) => need(k).values.subarray((first + t) * width + kv * D, (first + t) * width + (kv + 1) * D),
          n - first + 1,
          dim(dims, "scale"),
        );
        need(lse).values[n * heads + h] = value;
        p.forEach((weight, t) => {
          for (let d = 0; d < D; d++) need(out).values[row + d]! += weight * need(v).values[(first + t) * width + kv * D + d]!;
        });
      }
    }
  },
  attention_backward: (dims, [q, k, v, offsets, , , dout], outputs) => {
    const [dq, dk, dv] = outputs.map(need) as [ReferenceTensor, ReferenceTensor, ReferenceTensor];
    for (const gradient of [dq, dk, dv]) gradient.values.fill(0);
    const heads = dim(dims, "heads");
    const scale = dim(dims, "scale");
    const D = need(q).cols / heads;
    const width = need(k).cols;
    for (let n = 0; n < need(q).rows; n++) {
      const first = need(offsets).values[sequenceOf(need(offsets), n)]!;
      for (let h = 0; h < heads; h++) {
        const kv = Math.floor((h * dim(dims, "kvHeads")) / heads);
        const row = n * heads * D + h * D;
        const at = (t: number): number => (first + t) * width + kv * D;
        const { p } = scores(need(q).values.subarray(row, row + D), (t) => need(k).values.subarray(at(t), at(t) + D), n - first + 1, scale);
        const dp = p.map((_, t) => {
          let sum = 0;
          for (let d = 0; d < D; d++) sum += need(dout).values[row + d]! * need(v).values[at(t) + d]!;
          return sum;
        });
        const mean = p.reduce((sum, weight, t) => sum + weight * dp[t]!, 0);
        p.forEach((weight, t) => {
          const ds = weight * (dp[t]! - mean) * scale;
          for (let d = 0; d < D; d++) {
            dq.values[row + d]! += ds * need(k).values[at(t) + d]!;
            dk.values[at(t) + d]! += ds * need(q).values[row + d]!;
            dv.values[at(t) + d]! += weight * need(dout).values[row + d]!;
          }
        });
      }
    }
  },
  kv_write: (dims, [k, v, positions, offsets, blockTable], [kCache, vCache]) => {
    const K = dim(dims, "kvHeads");
    const D = need(k).cols / K;
    for (let n = 0; n < need(k).rows; n++) {
      const position = need(positions).values[n]!;
      if (position === INACTIVE) continue;
      const block = need(blockTable).values[sequenceOf(need(offsets), n) * need(blockTable).cols + Math.floor(position / BLOCK)]!;
      for (let h = 0; h < K; h++) {
        for (let d = 0; d < D; d++) {
          need(kCache).values[cacheIndex(need(kCache), "k", block, h, position % BLOCK, d, D)] = need(k).values[n * K * D + h * D + d]!;
          need(vCache).values[cacheIndex(need(vCache), "v", block, h, position % BLOCK, d, D)] = need(v).values[n * K * D + h * D + d]!;
        }
      }
    }
  },
  kv_copy: (_, [pairs], caches) => {
    for (const cache of caches.map(need))
      for (let i = 0; i < need(pairs).rows; i++) {
        const [from, to] = [need(pairs).values[2 * i]!, need(pairs).values[2 * i + 1]!];
        cache.values.set(cache.values.slice(from * cache.cols, (from + 1) * cache.cols), to * cache.cols);
      }
  },
  attention_paged: (dims, [q, positions, offsets, blockTable, kCache, vCache], [out]) => {
    const heads = dim(dims, "heads");
    const K = dim(dims, "kvHeads");
    const D = need(q).cols / heads;
    for (let n = 0; n < need(q).rows; n++) {
      const position = need(positions).values[n]!;
      if (position === INACTIVE) continue;
      const b = sequenceOf(need(offsets), n);
      const block = (t: number): number => need(blockTable).values[b * need(blockTable).cols + Math.floor(t / BLOCK)]!;
      for (let h = 0; h < heads; h++) {
        const kv = Math.floor((h * K) / heads);
        const row = n * heads * D + h * D;
        const key = (t: number): Float64Array =>
          Float64Array.from({ length: D }, (__, d) => need(kCache).values[cacheIndex(need(kCache), "k", block(t), kv, t % BLOCK, d, D)]!);
        const { p } = scores(need(q).values.subarray(row, row + D), key, position + 1, dim(dims, "scale"));
        for (let d = 0; d < D; d++)
          need(out).values[row + d] = p.reduce(
            (sum, weight, t) => sum + weight * need(vCache).values[cacheIndex(need(vCache), "v", block(t), kv, t % BLOCK, d, D)]!,
            0,
          );
      }
    }
  },
};

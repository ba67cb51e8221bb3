/** Host side of the paged cache: writing tokens, copying blocks. Both work shard by shard. */
import { dtypeBytes } from "../../device.ts";
import { DeviceError } from "../../../util/errors.ts";
import { dtypeCodes, fold, shardsOf, type GpuStorage, type KernelCall, type KernelContext, type Present } from "../kernel.ts";

/** Most bytes of blocks on their way at a time. */
const mostMoved = 64 * 2 ** 20;

/** @throws DeviceError unless one shard of keys and one of values hold the same blocks. */
export function expectAlike(where: string, kCache: GpuStorage, vCache: GpuStorage): void {
  if (kCache.dtype !== vCache.dtype || kCache.rowsPerShard !== vCache.rowsPerShard)
    throw new DeviceError({
      where,
      what: "kCache and vCache differ in type or shards",
      expected: `${kCache.dtype}, ${kCache.rowsPerShard} blocks a shard`,
      got: `${vCache.dtype}, ${vCache.rowsPerShard}`,
    });
}

export function kvWrite(context: KernelContext, { dims, inputs, outputs }: KernelCall): void {
  const [k, v, positions, offsets, blockTable] = inputs as Present;
  const [kCache, vCache] = outputs as Present;
  if (k.rows === 0 || blockTable.rows === 0) return;
  expectAlike("kv_write", kCache, vCache);
  const pairs = k.cols / 2;
  const each = 4 / dtypeBytes[kCache.dtype];
  const sources = [k, v, positions, offsets, blockTable].map((storage) => context.whole(storage, "read"));
  shardsOf(kCache).forEach(({ buffer, first, rows }, shard) => {
    context.dispatch({
      kernel: "kv_write",
      constants: { CACHE_DTYPE: dtypeCodes[kCache.dtype] },
      buffers: [...sources, buffer, vCache.buffers[shard]!],
      uints: [
        ...[k.rows, pairs, blockTable.rows, k.stride / 2, v.stride / 2, blockTable.stride],
        ...[kCache.stride / each, vCache.stride / each, first, rows, k.cols / dims["kvHeads"]!],
      ],
      grid: fold(Math.ceil((k.rows * pairs) / 128)),
    });
  });
}

export function kvCopy(context: KernelContext, { inputs, outputs }: KernelCall): void {
  const pairs = inputs[0]!;
  if (pairs.rows === 0) return;
  const list = context.whole(pairs, "read");
  for (const cache of outputs as readonly GpuStorage[]) {
    const words = (cache.stride * dtypeBytes[cache.dtype]) / 16;
    const atOnce = Math.max(1, Math.min(pairs.rows, Math.floor(Math.min(mostMoved, context.capabilities.maxBinding) / (words * 16))));
    const moved = context.scratch(atOnce * words * 16);
    for (let first = 0; first < pairs.rows; first += atOnce) {
      const count = Math.min(atOnce, pairs.rows - first);
      for (const GATHER of [true, false])
        for (const shard of shardsOf(cache))
          context.dispatch({
            kernel: "kv_copy",
            constants: { GATHER },
            buffers: GATHER ? [list, shard.buffer, moved] : [list, moved, shard.buffer],
            uints: [first, count, words, pairs.stride, shard.first, shard.rows],
            grid: fold(Math.ceil((count * words) / 128)),
          });
    }
  }
}

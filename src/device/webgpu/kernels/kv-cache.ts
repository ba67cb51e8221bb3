/** Host side of the paged cache: writing tokens, copying blocks. Both work shard by shard. */
import { dtypeBytes } from "../../device.ts";
import { DeviceError } from "../../../util/errors.ts";
import { dtypeCodes, fold, type GpuStorage, type KernelCall, type KernelContext } from "../kernel.ts";

/** Most bytes of blocks on their way at a time. */
const mostMoved = 64 * 2 ** 20;

export function kvWrite(context: KernelContext, { dims, inputs, outputs }: KernelCall): void {
  const [k, v, positions, offsets, blockTable] = inputs as [GpuStorage, GpuStorage, GpuStorage, GpuStorage, GpuStorage];
  const [kCache, vCache] = outputs as [GpuStorage, GpuStorage];
  if (k.rows === 0 || blockTable.rows === 0) return;
  if (kCache.dtype !== vCache.dtype || kCache.rowsPerShard !== vCache.rowsPerShard)
    throw new DeviceError({
      where: "kv_write",
      what: "kCache and vCache differ in type or shards",
      expected: `${kCache.dtype}, ${kCache.rowsPerShard} blocks a shard`,
      got: `${vCache.dtype}, ${vCache.rowsPerShard}`,
    });
  const pairs = k.cols / 2;
  const each = 4 / dtypeBytes[kCache.dtype];
  const sources = [k, v, positions, offsets, blockTable].map((storage) => context.whole(storage, "read"));
  kCache.buffers.forEach((keys, shard) => {
    const firstBlock = shard * kCache.rowsPerShard;
    context.dispatch({
      kernel: "kv_write",
      constants: { CACHE_DTYPE: dtypeCodes[kCache.dtype] },
      buffers: [...sources, keys, vCache.buffers[shard]!],
      uints: [
        ...[k.rows, pairs, blockTable.rows, k.stride / 2, v.stride / 2, blockTable.stride],
        ...[
          kCache.stride / each,
          vCache.stride / each,
          firstBlock,
          Math.min(kCache.rowsPerShard, kCache.rows - firstBlock),
          k.cols / dims["kvHeads"]!,
        ],
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
        cache.buffers.forEach((buffer, shard) => {
          const firstBlock = shard * cache.rowsPerShard;
          context.dispatch({
            kernel: "kv_copy",
            constants: { GATHER },
            buffers: GATHER ? [list, buffer, moved] : [list, moved, buffer],
            uints: [first, count, words, pairs.stride, firstBlock, Math.min(cache.rowsPerShard, cache.rows - firstBlock)],
            grid: fold(Math.ceil((count * words) / 128)),
          });
        });
    }
  }
}

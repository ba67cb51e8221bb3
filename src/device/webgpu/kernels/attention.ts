/** Host side of attention: packed for training, paged for prefill and decode, and its backward pass. */
import { DeviceError } from "../../../util/errors.ts";
import { dtypeCodes, fold, shardsOf, type GpuStorage, type KernelCall, type KernelContext, type Present } from "../kernel.ts";
import { decodeRows, matrixBackward, matrixKernel, matrixRows, matrixSteps, matrixTiles, octets } from "./attention-matrix.ts";
import { groupOf, headsOf, quads, reader, tiling, type CacheShard } from "./attention-tiles.ts";
import { expectAlike } from "./kv-cache.ts";

/** Rows (token, query head) of a tile. */
const tileRows = 64;
/** Keys of a block: attention merges blocks of so many, and a row of the cache holds one. */
const blockKeys = 64;
/** Most tokens per sequence, on average, for which `attention_paged` takes one token at a time. */
const fewTokens = 4;
/** Most bytes of partial sums at a time. */
const mostPartial = 512 * 2 ** 20;
/** Groups of 32 threads that keep a large GPU busy. */
const wantedGroups = 4096;

/** Strides of caches in vec4<u32>s. */
const words4 = ({ stride, dtype }: GpuStorage): number => (dtype === "f32" ? stride / 4 : stride / 8);

/** Packed causal attention; saves lse. */
export function attention(context: KernelContext, call: KernelCall): void {
  const [q, k, v, offsets] = call.inputs as Present;
  const [out, lse] = call.outputs as Present;
  const shape = headsOf(call);
  const sequences = offsets.cols - 1;
  if (q.rows === 0 || sequences === 0) return;
  const read = reader(context);
  const places = read(offsets);
  const rows = matrixRows(context, shape.D);
  if (rows !== null) {
    matrixTiles(context, shape, rows, { queries: q, keys: k, values: v, offsets: places, sequences, paged: null, out, lse });
    return;
  }
  const { group, tile, groups, groupsPerHead, slots } = tiling(shape, q.rows, sequences, tileRows);
  context.dispatch({
    kernel: "attention",
    constants: { WIDE: shape.D > 64, PAGED: false, KV_DTYPE: dtypeCodes.f32 },
    buffers: [read(q), read(k), read(v), places, places, places, context.whole(out, "write"), context.whole(lse, "write")],
    uints: [slots, sequences, group, groups, groupsPerHead, tile, quads(q), quads(k), quads(v), quads(out), lse.stride, 0, shape.D / 4, 16],
    floats: [shape.scale],
    grid: fold(slots * groups),
  });
}

/** Gradients of `attention` in q, k and v. */
export function attentionBackward(context: KernelContext, call: KernelCall): void {
  const [q, k, v, offsets, out, lse, dout] = call.inputs as Present;
  const [dq, dk, dv] = call.outputs as Present;
  const shape = headsOf(call);
  const { heads, kvHeads, D, scale } = shape;
  const sequences = offsets.cols - 1;
  if (q.rows === 0 || sequences === 0) return;
  const read = reader(context);
  const count = q.rows * heads;
  const stats = context.scratch(count * 8);
  const gradient = read(dout);
  context.dispatch({
    kernel: "attention_backward_delta",
    buffers: [read(out), gradient, read(lse), stats],
    uints: [count, heads, quads(out), quads(dout), lse.stride, D / 4],
    grid: fold(Math.ceil(count / 128)),
  });
  const shared = [read(q), read(k), read(v), read(offsets), gradient, stats];
  const rows = matrixRows(context, D);
  if (rows !== null) {
    matrixBackward(context, shape, rows, { shared, q, k, v, dout, dq, dk, dv, sequences });
    return;
  }
  const { group, tile, groups, groupsPerHead, slots } = tiling(shape, q.rows, sequences, tileRows);
  context.dispatch({
    kernel: "attention_backward_query",
    constants: { WIDE: D > 64 },
    buffers: [...shared, context.whole(dq, "write")],
    uints: [slots, sequences, heads, group, groups, groupsPerHead, tile, quads(q), quads(k), quads(v), quads(dout), quads(dq), D / 4, 16],
    floats: [scale],
    grid: fold(slots * groups),
  });
  const blocks = Math.floor(q.rows / blockKeys) + sequences;
  context.dispatch({
    kernel: "attention_backward_key",
    constants: { WIDE: D > 64 },
    buffers: [...shared, context.whole(dk, "write"), context.whole(dv, "write")],
    uints: [blocks, sequences, heads, heads / kvHeads, kvHeads, quads(q), quads(k), quads(v), quads(dout), quads(dk), quads(dv), D / 4, 16],
    floats: [scale],
    grid: fold(blocks * kvHeads),
  });
}

/** Attention against the cache: tiles of queries for prefill, blocks of keys for decode; both give the bits of `attention`. */
export function attentionPaged(context: KernelContext, call: KernelCall): void {
  const [q, positions, offsets, blockTable, kCache, vCache] = call.inputs as Present;
  const [out] = call.outputs as Present;
  const read = reader(context);
  const shape = headsOf(call);
  const sequences = blockTable.rows;
  if (q.rows === 0 || sequences === 0) return;
  expectAlike("attention_paged", kCache, vCache);
  if (q.rows > fewTokens * sequences && kCache.shards === 1) prefill();
  else decode();

  function prefill(): void {
    const rows = matrixRows(context, shape.D);
    if (rows !== null) {
      const paged = { positions: read(positions), table: read(blockTable), tableStride: blockTable.stride };
      matrixTiles(context, shape, rows, {
        queries: q,
        keys: kCache,
        values: vCache,
        offsets: read(offsets),
        sequences,
        paged,
        out,
        lse: null,
      });
      return;
    }
    const { group, tile, groups, groupsPerHead, slots } = tiling(shape, q.rows, sequences, tileRows);
    context.dispatch({
      kernel: "attention",
      constants: { WIDE: shape.D > 64, PAGED: true, KV_DTYPE: dtypeCodes[kCache.dtype] },
      buffers: [
        ...[read(q), kCache.buffers[0]!, vCache.buffers[0]!, read(offsets), read(positions), read(blockTable)],
        ...[context.whole(out, "write"), context.scratch(16)],
      ],
      uints: [
        ...[slots, sequences, group, groups, groupsPerHead, tile, quads(q), words4(kCache), words4(vCache), quads(out)],
        ...[0, blockTable.stride, shape.D / 4, 16],
      ],
      floats: [shape.scale],
      grid: fold(slots * groups),
    });
  }

  function decode(): void {
    const { D, heads, kvHeads, scale } = shape;
    const matrices = matrixRows(context, D) !== null;
    const ROWS = groupOf(shape, matrices ? decodeRows : 8);
    const groups = heads / ROWS;
    const items = q.rows * groups;
    const maxBlocks = blockTable.cols;
    const itemBytes = maxBlocks * ROWS * D * 4;
    const itemsAtOnce = Math.min(items, Math.floor(Math.min(mostPartial, context.capabilities.maxBinding) / itemBytes));
    if (itemsAtOnce === 0)
      throw new DeviceError({
        where: "attention_paged",
        what: `partial sums of one token over ${maxBlocks} blocks do not fit one binding`,
        expected: `at most ${context.capabilities.maxBinding} bytes`,
        got: String(itemBytes),
        hint: "Lower the longest sequence (generate.maxTokens).",
      });
    const sums = context.scratch(itemsAtOnce * itemBytes);
    const norms = context.scratch(itemsAtOnce * maxBlocks * ROWS * 8);
    const [queries, at, places, table] = [read(q), read(positions), read(offsets), read(blockTable)];
    const to = context.whole(out, "write");
    for (let first = 0; first < items; first += itemsAtOnce) {
      const some = Math.min(itemsAtOnce, items - first);
      shardsOf(kCache).forEach((shard, index) => {
        const cache = { keys: shard.buffer, values: vCache.buffers[index]!, first: shard.first, blocks: shard.rows };
        if (matrices) matrixBlocks(first, some, cache);
        else plainBlocks(first, some, cache);
      });
      context.dispatch({
        kernel: "attention_paged_merge",
        buffers: [at, places, sums, norms, to],
        uints: [some, first, groups, sequences, maxBlocks, quads(out), D / 4, ROWS],
        grid: fold(Math.ceil((some * ROWS * (D / 4)) / 64)),
      });
    }

    function plainBlocks(first: number, some: number, cache: CacheShard): void {
      // threads that sum 4 columns each: as many parts of the 32 as there is room for
      const parts = D > 64 ? 1 : D > 32 ? 2 : D > 16 ? 4 : 8;
      const half = kCache.dtype === "f32" ? 1 : 2;
      // four groups of threads a workgroup, each with blocks of its own
      const splits = Math.max(1, Math.min(Math.ceil(wantedGroups / some / 4), Math.ceil(maxBlocks / 4)));
      context.dispatch({
        kernel: "attention_paged",
        constants: { ROWS, EACH: Math.ceil(ROWS / parts), KV_DTYPE: dtypeCodes[kCache.dtype] },
        aliases: { PAIR: half === 1 ? "vec2<u32>" : "u32" },
        buffers: [queries, at, places, table, cache.keys, cache.values, sums, norms],
        uints: [
          ...[some, first, splits, sequences, q.rows, groups, groups / kvHeads, quads(q)],
          ...[kCache.stride / 2, vCache.stride / half / 2, blockTable.stride, maxBlocks, cache.first, cache.blocks, D / 4, parts],
        ],
        floats: [scale],
        grid: fold(some * splits),
      });
    }

    function matrixBlocks(first: number, some: number, cache: CacheShard): void {
      const { M } = context.capabilities.matrix!;
      const splits = Math.max(1, Math.min(Math.ceil(wantedGroups / 4 / some), maxBlocks));
      context.dispatch({
        ...matrixKernel(context, { BM: Math.ceil(ROWS / M) * M, WN: 1, D, PAGED: true, KV_DTYPE: dtypeCodes[kCache.dtype], SPLIT: true }),
        buffers: [queries, cache.keys, cache.values, places, at, table, sums, norms],
        uints: [
          ...[0, sequences, ROWS, groups, groups / kvHeads, 1, quads(q), 0, octets(kCache), octets(vCache), 0, blockTable.stride],
          ...matrixSteps(context, D),
          ...[some, first, splits, maxBlocks, cache.first, cache.blocks],
        ],
        floats: [scale],
        grid: fold(some * splits),
      });
    }
  }
}

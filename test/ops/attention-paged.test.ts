import { describe, expect, it } from "vitest";
import { attention } from "../../src/ops/attention.ts";
import { attentionPaged } from "../../src/ops/attention-paged.ts";
import { kvCopy } from "../../src/ops/kv-copy.ts";
import { kvWrite } from "../../src/ops/kv-write.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { fromHost, full } from "../../src/tensor/tensor.ts";
import { randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

const [heads, kvHeads, D] = [6, 2, 12];
const width = kvHeads * D;

describe.each(deviceVariants)("attentionPaged on $name", ({ options }) => {
  const cpu = useDevice(options);

  for (const dtype of ["f32", "f16", "bf16"] as const) {
    it(`gives the bits of packed attention over a ${dtype} cache, through any block table and after blocks were copied`, async () => {
      const device = cpu();
      const lengths = [130, 1, 65];
      const N = 196;
      const { packed, paged } = withScope(() => {
        const [q, k, v] = [heads * D, width, width].map((cols, i) => fromHost(device, randomValues(N * cols, i + 1), [N, cols])) as [
          never,
          never,
          never,
        ];
        const offsets = fromHost(device, Uint32Array.of(0, 130, 131, 196), [4]);
        const positions = fromHost(device, Uint32Array.from(lengths.flatMap((length) => Array.from({ length }, (_, t) => t))), [N]);
        const cache = (label: string) => full(device, [8, width * 64], 0, { dtype: "f32", label });
        const make = (label: string) =>
          dtype === "f32" ? cache(label) : fromHost(device, new Uint16Array(8 * width * 64), [8, width * 64], { dtype, label });
        const [kCache, vCache] = [make("k"), make("v")];
        const before = { positions, offsets, blockTable: fromHost(device, Uint32Array.of(6, 1, 2, 5, 0, 0, 3, 0, 0), [3, 3]) };
        kvWrite(
          k,
          v,
          { ...before, blockTable: fromHost(device, Uint32Array.of(6, 1, 2, 5, 0, 0, 3, 4, 0), [3, 3]) },
          kCache,
          vCache,
          kvHeads,
        );
        kvCopy(fromHost(device, Uint32Array.of(1, 7, 3, 0), [2, 2]), kCache, vCache);
        const after = { positions, offsets, blockTable: fromHost(device, Uint32Array.of(6, 7, 2, 5, 0, 0, 0, 4, 0), [3, 3]) };
        return {
          packed: attention(q, k, v, offsets, { heads, kvHeads, cacheDtype: dtype }),
          paged: attentionPaged(q, after, kCache, vCache, { heads, kvHeads }),
        };
      });
      expect(await paged.read()).toEqual(await packed.read());
      packed.dispose();
      paged.dispose();
    });
  }

  it("writes nothing for inactive rows", async () => {
    const device = cpu();
    const { kCache } = withScope(() => {
      const caches = { kCache: full(device, [2, width * 64], 3), vCache: full(device, [2, width * 64], 3) };
      const places = {
        positions: fromHost(device, Uint32Array.of(0xffffffff), [1]),
        offsets: fromHost(device, Uint32Array.of(0, 1), [2]),
        blockTable: fromHost(device, Uint32Array.of(1), [1, 1]),
      };
      kvWrite(full(device, [1, width], 5), full(device, [1, width], 5), places, caches.kCache, caches.vCache, kvHeads);
      return { kCache: caches.kCache };
    });
    expect((await kCache.readFloats()).every((x) => x === 3)).toBe(true);
    kCache.dispose();
  });
});

/** Prefill: packed prompts into the cache, as the generator asks for it. */
import { fromHost, keep, KvCache, type Tensor } from "zerosearch";
import type { Bench } from "../bench.js";
import { parameters, prefillWork } from "../shapes.js";
import { torchShape } from "./decode.js";
import { randomDecoder, someIds } from "./weights.js";
import { maxPositions, preparedOn, timed, type World } from "./world.js";

export function prefillBenches(world: World): Bench[] {
  const cases = world.sized(
    [
      [1, 64],
      [2, 32],
    ],
    [
      [1, 2048],
      [16, 512],
    ],
  );
  return world.models.flatMap((shape) =>
    cases.map(([B = 1, T = 1]): Bench => {
      const { name, config } = shape;
      const wide = Math.ceil(T / 64);
      const size = world.precision === "f16" ? 2 : 4;
      return {
        name: `prefill/${name}/${B}x${T}`,
        unit: "tokens/s",
        amount: B * T,
        precision: world.precision,
        work: prefillWork(config, B, T),
        rate: { kind: "prefill", layers: config.layers },
        memory:
          size * parameters(config) +
          KvCache.bytesFor(config, B * wide, world.precision) +
          4 * B * T * (4 * config.width + 3 * config.mlpWidth),
        peers: world.torchPeers("prefill", { model: torchShape(shape), batch: B, tokens: T }),
        async open() {
          const { device } = await world.gpu();
          const decoder = randomDecoder(config, device, { dtype: world.precision, maxPositions });
          const cache = new KvCache(device, config, B * wide, world.precision);
          const words = (values: ArrayLike<number>, dims: number[]): Tensor =>
            keep(fromHost(device, Uint32Array.from(values), dims, { label: "prefill" }));
          const N = B * T;
          const batch = {
            ids: words(someIds(N, config.vocabulary, 1), [N]),
            positions: words(
              Array.from({ length: N }, (_, n) => n % T),
              [N],
            ),
            offsets: words(
              Array.from({ length: B + 1 }, (_, b) => b * T),
              [B + 1],
            ),
            blockTable: words(
              Array.from({ length: B * wide }, (_, i) => i),
              [B, wide],
            ),
          };
          return preparedOn(device, {
            run: (count) =>
              timed(device, count, () => {
                decoder.forwardPaged(batch, cache).dispose();
              }),
            close() {
              for (const tensor of Object.values(batch)) tensor.dispose();
              cache.dispose();
              decoder.dispose();
            },
          });
        },
      };
    }),
  );
}

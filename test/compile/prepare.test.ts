/**
 * What is prepared is all that a run uses: rollouts and updates of other sizes than those of `modelProgram` are run on a device that only
 * notes pipelines.
 */
import { describe, expect, it } from "vitest";
import type { Dtype } from "../../src/device/device.ts";
import { DryWebGpuDevice } from "../../src/device/webgpu/dry-device.ts";
import { collect } from "../../src/device/webgpu/prepare.ts";
import { fromHuggingFace, type DecoderConfig } from "../../src/nn/config.ts";
import { KvCache } from "../../src/nn/kv-cache.ts";
import { packBatch } from "../../src/nn/batch.ts";
import type { Decoder } from "../../src/nn/decoder.ts";
import { gatherRows } from "../../src/ops/gather-rows.ts";
import { kvCopy } from "../../src/ops/kv-copy.ts";
import { logProb } from "../../src/ops/log-prob.ts";
import { policyLoss } from "../../src/ops/policy-loss.ts";
import { sample } from "../../src/ops/sample.ts";
import { AdamW, decayGroups } from "../../src/optim/adamw.ts";
import type { MomentKind } from "../../src/optim/moments.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, full } from "../../src/tensor/tensor.ts";
import { readOverride, resolveConfig } from "../../src/config/index.ts";
import { tokenValues, updateCritic } from "../../src/rl/critic.ts";
import { update } from "../../src/rl/update.ts";
import { forwardSettings, lossSettings } from "../../src/run/algorithm.ts";
import { Closing } from "../../src/setup/closing.ts";
import { openLearner } from "../../src/setup/open-learner.ts";
import { blankRollout, modelProgram } from "../../src/setup/prepare-device.ts";
import { programOf } from "../helpers/model-program.ts";
import { feed } from "../helpers/paged.ts";
import { randomIds, tinyConfigs, tinyDecoder } from "../helpers/tiny-model.ts";
import { targets } from "./tiers.ts";

const shape = {
  hidden_size: 128,
  intermediate_size: 352,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 611,
};
const configs: Readonly<Record<string, DecoderConfig>> = {
  ...tinyConfigs,
  "larger qwen2": fromHuggingFace({
    ...shape,
    architectures: ["Qwen2ForCausalLM"],
    max_position_embeddings: 512,
    tie_word_embeddings: true,
  }),
};
const cases = Object.entries(configs).flatMap(([name, config]) =>
  (["f32", "f16"] as const).flatMap((precision) =>
    (["weights", "adapters", "nothing"] as const).map((trains) => ({ name, config, precision, trains })),
  ),
);

/** Prefill, decode steps of several sizes, and sampling. */
function rollOut(device: DryWebGpuDevice, decoder: Decoder, adapter: string | undefined, cacheType: Dtype): void {
  const { config } = decoder;
  const cache = new KvCache(device, config, 40, cacheType);
  const blocks = [3, 1, 2];
  for (const lengths of [[130], [70, 1, 5], [1], [1, 1, 1], Array.from({ length: 33 }, () => 1)]) {
    const pieces = lengths.map((length) => ({ ids: randomIds(length, config.vocabulary, 1), start: 0, blocks }));
    const hidden = feed(decoder, cache, pieces, adapter);
    const R = hidden.rows;
    withScope(() => {
      const words = (n: number) => fromHost(device, new Uint32Array(n), n === R ? [R] : [R, n / R]);
      if (R < 64) sample(decoder.logits(hidden), fromHost(device, new Float32Array(4 * R), [R, 4]), words(5 * R), words(R));
    });
    hidden.dispose();
  }
  const pairs = fromHost(device, Uint32Array.of(0, 1), [1, 2]);
  for (const [layer, keys] of cache.keys.entries()) kvCopy(pairs, keys, cache.values[layer]!);
}

/** Updates. */
async function learn(
  device: DryWebGpuDevice,
  decoder: Decoder,
  adapter: string | undefined,
  {
    cache: cacheDtype,
    moments,
    kl: withReference,
    recompute: again,
  }: { readonly cache: Dtype; readonly moments: MomentKind; readonly kl: boolean; readonly recompute: boolean },
): Promise<void> {
  const { vocabulary } = decoder.config;
  const parameters = adapter === undefined ? decoder.parameters() : decoder.adapterParameters(adapter);
  const optimizer = new AdamW(decayGroups(parameters, 0.1), { moments });
  for (const [lengths, recompute] of [
    [[97, 1, 64], false],
    [[200], again],
    [[5], false],
  ] as const) {
    const rows = lengths.map((length, i) => randomIds(length, vocabulary, i));
    const n = rows.flat().length - 3;
    withScope(() => {
      const { tape, value } = withTape(() => {
        const hidden = decoder.forward(packBatch(device, rows), { cacheDtype, adapter, recompute });
        const vector = () => full(device, [n], 0);
        const chosen = gatherRows(hidden, fromHost(device, new Uint32Array(n), [n]));
        const tokens = logProb(chosen, decoder.headWeight, fromHost(device, new Uint32Array(n), [n]), 0.8);
        return policyLoss(
          { ...tokens, oldLogProb: vector(), advantage: vector(), weight: vector(), referenceLogProb: withReference ? vector() : null },
          { clipLow: 0.2, clipHigh: 0.2, klCoef: withReference ? 0.1 : 0, entropyCoef: withReference ? 0.01 : 0, scale: 1 },
        );
      });
      backward(tape, value);
    });
    await optimizer.update(1e-3);
    await optimizer.settle();
  }
}

// the adapter that runs anything, and one with every tier
describe.each(targets.filter(({ name }) => name === "no tier" || name === "a large GPU"))(
  "on an adapter with $name",
  ({ capabilities }) => {
    it.each(cases)(
      "$name, precision $precision, training $trains, needs no pipeline that is not prepared",
      async ({ config, precision, trains }) => {
        for (const kinds of [
          { cache: "f32", moments: "8bit", kl: false, recompute: false },
          { cache: "f32", moments: "f32", kl: true, recompute: true },
          { cache: "f16", moments: "bf16", kl: true, recompute: true },
        ] as const) {
          const { cache, moments, kl, recompute } = kinds;
          const weights = trains === "weights" ? "f32" : "f16";
          const device = new DryWebGpuDevice({ capabilities, precision, fuse: true });
          const decoder = tinyDecoder(config, device, { dtype: weights });
          decoder.setTrainable(trains === "weights");
          const adapter = trains === "adapters" ? "a" : undefined;
          if (adapter !== undefined) decoder.addAdapter(adapter, { rank: 4, alpha: 8, seed: 1 });
          rollOut(device, decoder, adapter, cache);
          if (trains !== "nothing") await learn(device, decoder, adapter, kinds);
          const terms = kl ? ["algorithm.klCoef=0.1", "algorithm.entropyCoef=0.01"] : ["algorithm.klCoef=0"];
          const settings = [`model.cacheDtype=${cache}`, `optimizer.moments=${moments}`, `train.recompute=${String(recompute)}`, ...terms];
          const program = programOf({ config, weights, trains, loraRank: adapter === undefined ? 0 : 4, settings });
          const prepared = await collect({ capabilities, precision, fuse: true }, program);
          expect(device.specialisations.size).toBeGreaterThan(15);
          expect([...device.specialisations.keys()].filter((key) => !prepared.has(key))).toEqual([]);
        }
      },
    );
  },
);

it.each([
  ["a critic of its own", ["algorithm.name=ppo"]],
  ["a critic on the policy's weights", ["algorithm.name=ppo", "critic.trunk=policy"]],
  ["gspo", ["algorithm.name=gspo"]],
  ["cispo with k2", ["algorithm.loss=cispo", "algorithm.klEstimator=k2"]],
])("covers the updates of %s", async (_, settings) => {
  const options = { capabilities: targets[0]!.capabilities, precision: "f32" } as const;
  const config = resolveConfig(["data.train=none", "model.policy=none", "simulator.path=none", ...settings].map(readOverride));
  const own = config.algorithm.advantage === "gae" && config.critic.trunk === "own";
  const shell = new DryWebGpuDevice(options);
  const copy = () => ({ decoder: tinyDecoder(configs["larger qwen2"]!, shell), adapter: undefined });
  const models = { policy: copy(), simulator: null, reference: null, criticModel: own ? copy() : null };
  const prepared = await collect(options, modelProgram(config, models, { trains: true }));

  // The updates of a step, on rollouts of other lengths than those that are prepared.
  const device = new DryWebGpuDevice(options);
  const [decoder, other] = [1, 2].map(() => tinyDecoder(configs["larger qwen2"]!, device)) as [Decoder, Decoder];
  for (const one of [decoder, other]) one.setTrainable(true);
  const closing = new Closing();
  const learner = openLearner(
    config,
    { device, policy: { decoder, adapter: undefined }, criticModel: own ? { decoder: other, adapter: undefined } : null },
    closing,
  );
  const rows = [37, 61].map((length, question) =>
    blankRollout(length, 9, { step: 1, question, rollout: 0 }, { temperature: 1, topK: 0, topP: 1 }),
  );
  const batch = rows.map((trajectory) => ({ trajectory, reward: 1, advantage: 1, returns: trajectory.logProbs }));
  const values = new Map(rows.map((row) => [row, new Float64Array(row.ids.length)]));
  const forward = forwardSettings(config);
  const reference = new Map(rows.map((row) => [row, new Float32Array(9)]));
  const { critic, optimizer } = learner;
  if (critic !== null && critic.own !== null) {
    await tokenValues(critic, rows, forward);
    await updateCritic(critic, critic.own.optimizer, batch, { ...forward, values, clip: 0.5 }, 1e-3);
  }
  const shared = critic !== null && critic.own === null ? { critic: { head: critic.head, values, clip: 0.5, coef: 0.5 } } : {};
  await update(decoder, optimizer, batch, { ...forward, ...lossSettings(config), ...shared }, 1e-3, reference);
  await closing.close();
  expect(device.specialisations.size).toBeGreaterThan(15);
  expect([...device.specialisations.keys()].filter((key) => !prepared.has(key))).toEqual([]);
});

it("covers every rank of an adapter whose layers differ", async () => {
  const { capabilities } = targets[0]!;
  const options = { capabilities, precision: "f32" } as const;
  const asked = async (ranks: readonly number[]): Promise<string> => {
    const device = new DryWebGpuDevice(options);
    const decoder = tinyDecoder(configs["larger qwen2"]!, device);
    const pair = (layer: number) => ({ rank: ranks[layer]!, scale: 1 });
    decoder.addAdapter("a", { rank: 8, alpha: 8, pair });
    const matmuls: number[] = [];
    const noting = new DryWebGpuDevice({
      ...options,
      onDispatch: ({ kernel, uints = [] }) => kernel === "matmul" && matmuls.push(uints[1]!, uints[2]!),
    });
    const config = resolveConfig(["data.train=none", "model.policy=none", "simulator.path=none"].map(readOverride));
    await modelProgram(
      config,
      { policy: { decoder, adapter: "a" }, simulator: null, reference: null, criticModel: null },
      { trains: false },
    )(noting);
    return [3, 24].filter((rank) => matmuls.includes(rank)).join();
  };
  expect([await asked([3, 3]), await asked([3, 24]), await asked([24, 24])]).toEqual(["3", "3,24", "24"]);
});

import { describe, expect, it } from "vitest";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadDecoder, loadTensors } from "../../src/checkpoint/load-model.ts";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { saveTensors } from "../../src/checkpoint/save-tensors.ts";
import type { Device } from "../../src/device/device.ts";
import type { DeviceOptions } from "../../src/device/options.ts";
import { packBatch } from "../../src/nn/batch.ts";
import { Decoder } from "../../src/nn/decoder.ts";
import { crossEntropy } from "../../src/ops/cross-entropy.ts";
import { AdamW, decayGroups } from "../../src/optim/adamw.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, full } from "../../src/tensor/tensor.ts";
import { withDevice } from "../helpers/device.ts";
import { randomIds, tinyConfigs } from "../helpers/tiny-model.ts";

const config = { ...tinyConfigs.qwen3, width: 72, mlpWidth: 130, vocabulary: 300 };

async function trainStep(decoder: Decoder, optimiser: AdamW, step: number): Promise<number> {
  const device = decoder.device;
  const ids = [randomIds(150, config.vocabulary, 2 * step), randomIds(70, config.vocabulary, 2 * step + 1)];
  optimiser.zeroGrad();
  const stats = withScope(() => {
    const targets = fromHost(device, Uint32Array.from(ids.flatMap((sequence) => [...sequence.slice(1), 0])), [220]);
    const { tape, value } = withTape(() =>
      crossEntropy(decoder.forward(packBatch(device, ids)), decoder.headWeight, targets, full(device, [220], 1), { scale: 1 / 220 }),
    );
    backward(tape, value);
    return value;
  });
  await optimiser.update(0.003);
  const [[loss]] = await Promise.all([stats.readFloats(), optimiser.settle()]);
  stats.dispose();
  return loss!;
}

async function weights(decoder: Decoder): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for (const [name, parameter] of decoder.parameters()) all.set(name, await parameter.readFloats());
  return all;
}

function make(device: Device): { decoder: Decoder; optimiser: AdamW } {
  const decoder = Decoder.initialise(config, device, 3);
  return { decoder, optimiser: new AdamW(decayGroups(decoder.parameters(), 0.05), { beta2: 0.98 }) };
}

describe("four training steps", () => {
  const straight = (options: DeviceOptions) =>
    withDevice(async (device) => {
      const { decoder, optimiser } = make(device);
      const losses: number[] = [];
      for (let step = 0; step < 4; step++) losses.push(await trainStep(decoder, optimiser, step));
      return { losses, weights: await weights(decoder) };
    }, options);

  it("give the same losses and weights, bit for bit, with 1, 2 and 3 threads and with shards of any size", async () => {
    const expected = await straight({ threads: 2 });
    expect(new Set(expected.losses).size).toBe(4);
    for (const options of [
      { threads: 2 },
      { threads: 1 },
      { threads: 3 },
      { threads: 2, maxShardBytes: 1024 },
      { threads: 1, maxShardBytes: 1 << 20 },
    ])
      expect(await straight(options), JSON.stringify(options)).toEqual(expected);
  });

  it("saved after two and loaded on a fresh device end in the same bits as without the pause", async () => {
    const folder = await mkdtemp(join(tmpdir(), "resume-"));
    try {
      const moments = join(folder, "optimiser.safetensors");
      await withDevice(
        async (device) => {
          const { decoder, optimiser } = make(device);
          for (let step = 0; step < 2; step++) await trainStep(decoder, optimiser, step);
          await saveModelFolder(decoder, folder);
          await saveTensors(moments, optimiser.stateTensors(), { metadata: { step: String(optimiser.step) } });
        },
        { maxShardBytes: 512 },
      );
      const resumed = await withDevice(async (device) => {
        const decoder = await loadDecoder(folder, device);
        const optimiser = new AdamW(decayGroups(decoder.parameters(), 0.05), { beta2: 0.98 });
        optimiser.resume(Number((await loadTensors(moments, optimiser.stateTensors()))["step"]));
        for (let step = 2; step < 4; step++) await trainStep(decoder, optimiser, step);
        return weights(decoder);
      });
      expect(resumed).toEqual((await straight({})).weights);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

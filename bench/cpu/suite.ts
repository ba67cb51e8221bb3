/** Every bench of the CPU device: products, an 8.7 M-parameter model in training and decoding, one of a real size, an RL step, curves. */
import { createDevice, type Device } from "zerosearch";
import type { Bench, Peer, RateOf } from "../bench.js";
import {
  benchDecoder,
  benchModel,
  decodeBench,
  decodeSteps,
  past,
  prefillBench,
  prefillLength,
  prefillSequences,
  smallModel,
  trainBench,
  trainTokens,
} from "../models.js";
import type { Options } from "../options.js";
import { decodeWork, prefillWork, trainWork, type ModelShape, type Work } from "../shapes.js";
import { copyBench, gemmBenches } from "./gemm.js";
import { realBenches } from "./real.js";
import { rlBench } from "./rl-step.js";
import { scalingBenches } from "./scaling.js";
import { CpuWorld, onceOn } from "./world.js";

/** Peers are started when they are first needed; `say` is told what is missing. */
export function cpuBenches(
  options: Options,
  say: (missing: string) => void,
): { readonly benches: readonly Bench[]; stop(): Promise<void> } {
  const world = new CpuWorld(options, say);
  return {
    benches: [
      copyBench(),
      ...gemmBenches(world),
      train(world),
      prefill(world),
      decode(world, 64),
      decode(world, 1),
      decode(world, 1, smallModel),
      rlBench(world),
      ...realBenches(world),
      ...scalingBenches(world),
    ],
    stop: () => world.stop(),
  };
}

interface Named {
  readonly name: string;
  /** Tokens of one repetition. */
  readonly tokens: number;
  readonly peers: readonly Peer[];
  readonly work: Work;
  readonly rate: RateOf;
}

function bench({ tokens, ...more }: Named, make: (device: Device) => () => Promise<number>): Bench {
  return {
    ...more,
    unit: "tokens/s",
    amount: tokens,
    async open() {
      const device = await createDevice();
      return onceOn(device, make(device));
    },
  };
}

const { config } = benchModel;

function train(world: CpuWorld): Bench {
  return bench(
    {
      name: "train/8.7M",
      tokens: trainTokens,
      peers: world.peers(world.torchPeer("train")),
      work: trainWork(config, trainTokens / 128, 128),
      rate: { kind: "train", layers: config.layers },
    },
    (device) => trainBench(benchDecoder(device)),
  );
}

function prefill(world: CpuWorld): Bench {
  return bench(
    {
      name: `prefill/8.7M/${prefillSequences}x${prefillLength}`,
      tokens: prefillSequences * prefillLength,
      peers: world.peers(world.torchPeer("prefill")),
      work: prefillWork(config, prefillSequences, prefillLength),
      rate: { kind: "prefill", layers: config.layers },
    },
    (device) => prefillBench(device, benchDecoder(device)),
  );
}

function decode(world: CpuWorld, batch: number, shape: ModelShape = benchModel): Bench {
  const { layers } = shape.config;
  const one = decodeWork(shape.config, batch, past + decodeSteps / 2, 4, 4);
  return bench(
    {
      name: `decode/${shape.name}/b${batch}`,
      tokens: batch * decodeSteps,
      peers: shape === benchModel ? world.peers(world.torchPeer(`decode ${batch}`)) : [],
      work: { ...one, flops: decodeSteps * (one.flops ?? 0), bytes: decodeSteps * (one.bytes ?? 0) },
      rate: { kind: "decode", layers, steps: decodeSteps, rows: batch },
    },
    (device) => decodeBench(device, benchDecoder(device, shape), batch),
  );
}

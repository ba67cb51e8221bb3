/** What the benches of one run share: the adapter, its peaks, devices by precision and tier, the PyTorch process. */
import type { Device } from "zerosearch";
import type { Bench, Peer, Prepared, Sample } from "../bench.js";
import type { Options } from "../options.js";
import { peakOf, type Peak, type Yardsticks } from "../peaks.js";
import type { TorchModels } from "../peers/torch-models.js";
import { modelNames, modelShape, type ModelShape } from "../shapes.js";
import { openGpu, type AdapterInfo, type GpuDevice, type GpuOptions, type OpenGpu } from "./open.js";

export type Tiers = NonNullable<GpuOptions["tiersOff"]>;

/** Positions that models are opened for: more than any bench uses. */
export const maxPositions = 4096;

export class World {
  readonly options: Options;
  readonly adapter: AdapterInfo;
  readonly precision: "f32" | "f16";
  readonly sizes: "small" | "full";
  readonly peak: Peak | null;
  readonly yardsticks: Yardsticks = { copyBytes: null, gemmFlops: null };
  readonly models: readonly ModelShape[];
  readonly torch: TorchModels | null;
  /** Told what is missing. */
  readonly say: (missing: string) => void;
  private readonly open = new Map<string, Promise<OpenGpu>>();

  constructor(options: Options, adapter: AdapterInfo, torch: TorchModels | null, say: (missing: string) => void) {
    this.say = say;
    this.options = options;
    this.adapter = adapter;
    this.torch = torch;
    this.precision = options.precision ?? (adapter.f16 ? "f16" : "f32");
    this.sizes = options.sizes === "auto" ? (adapter.software ? "small" : "full") : options.sizes;
    this.peak = peakOf(adapter.name, options);
    this.models = (options.models ?? modelNames).map((name) => modelShape(name, this.sizes, maxPositions));
  }

  /** Of two values, the one for this run's sizes. */
  sized<T>(small: T, full: T): T {
    return this.sizes === "small" ? small : full;
  }

  /** A device, kept for other benches. */
  async gpu(precision = this.precision, tiersOff: Tiers = []): Promise<OpenGpu> {
    const key = [precision, ...tiersOff].join(" ");
    let opening = this.open.get(key);
    if (opening === undefined) {
      const { backend, adapter, dry } = this.options;
      opening = openGpu({ precision, tiersOff, backend, adapter, ...(dry ? { hollow: { as: "nvidia" } } : {}) });
      this.open.set(key, opening);
      opening.catch(() => this.open.delete(key));
    }
    return opening;
  }

  /** Ends all devices, so that their memory is free: after an error, and before what needs all of it. */
  async dropDevices(): Promise<void> {
    const all = [...this.open.values()];
    this.open.clear();
    for (const opening of all) {
      try {
        await (await opening).device.destroy();
      } catch {
        // It never opened, or is lost already.
      }
    }
  }

  /** PyTorch doing the same, where it is there; `kind` and its numbers as in torch_models.py. */
  torchPeers(kind: string, numbers: Readonly<Record<string, unknown>>, variants: readonly string[] = [""]): Peer[] {
    const { torch } = this;
    if (torch === null || !this.options.peers) return [];
    return variants.map((variant) => ({
      name: `torch ${torch.version}${variant === "" ? "" : `, ${variant}`}`,
      open: async () => torch.prepare(kind, variant, numbers),
    }));
  }
}

/** Runs kernels on a device `count` times and waits: the wall clock, and the host's part of it. */
export async function timed(device: Device, count: number, ask: (i: number) => void): Promise<Sample> {
  const start = performance.now();
  for (let i = 0; i < count; i++) ask(i);
  const done = device.synchronize(); // submits what is still recorded before it waits
  const asked = performance.now();
  await done;
  return { seconds: (performance.now() - start) / 1000, hostSeconds: (asked - start) / 1000 };
}

/** What every bench of a device has. */
export function preparedOn(device: GpuDevice, parts: Omit<Prepared, "description" | "counts" | "peakBytes">): Prepared {
  device.resetPeak();
  return { ...parts, description: device.description, counts: () => device.counts, peakBytes: () => device.memory().peak };
}

export type MakeBenches = (world: World) => Bench[];

/** What the CPU's benches share: peers that are started when they are first needed. */
import { availableParallelism } from "node:os";
import type { Device } from "zerosearch";
import type { Peer, Prepared } from "../bench.js";
import type { Options } from "../options.js";
import { TorchModels } from "../peers/torch-models.js";
import { TorchPeer } from "../peers/torch.js";

export class CpuWorld {
  readonly options: Options;
  /** Told what is missing. */
  readonly say: (missing: string) => void;
  private readonly torch = new Map<string, Promise<TorchPeer | null>>();
  private models: Promise<TorchModels | null> | null = null;

  constructor(options: Options, say: (missing: string) => void) {
    this.options = options;
    this.say = say;
  }

  /** Those that are given, unless peers were left out. */
  peers(...all: readonly Peer[]): readonly Peer[] {
    return this.options.peers ? all : [];
  }

  /** A command of a Python program of `peers/` that takes turns with us, at its best thread count. */
  torchPeer(command: string, script = "torch_peer.py"): Peer {
    return {
      name: "torch",
      open: async () => {
        let started = this.torch.get(script);
        if (started === undefined) {
          started = TorchPeer.start(script, this.say);
          this.torch.set(script, started);
        }
        const torch = await started;
        if (torch === null) return null;
        const best = await torch.bestThreads(command, availableParallelism());
        return {
          description: `torch ${torch.version}, ${best} thread${best > 1 ? "s" : ""}`,
          most: 1,
          // another bench may have set it
          run: async () => {
            await torch.seconds(`threads ${best}`);
            return { seconds: await torch.seconds(command) };
          },
          close() {},
        };
      },
    };
  }

  /** A kind of `peers/torch_models.py` with its numbers, in its variant. */
  torchModel(kind: string, variant: string, numbers: Readonly<Record<string, unknown>>): Peer {
    return {
      name: `torch, ${kind}`,
      open: async () => {
        this.models ??= TorchModels.start(this.say);
        return (await this.models)?.prepare(kind, variant, numbers) ?? null;
      },
    };
  }

  async stop(): Promise<void> {
    for (const started of this.torch.values()) (await started)?.stop();
    (await this.models)?.stop();
  }
}

/** One repetition is one run of `once`, which says its seconds. The device is closed with it. */
export function onceOn(device: Device, once: () => Promise<number>): Prepared {
  return {
    description: device.description,
    most: 1,
    run: async () => ({ seconds: await once() }),
    close: () => device.destroy(),
  };
}

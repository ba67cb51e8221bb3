/** Compiles what models need of a device's kernels before they are used, with progress. */
import type { Device, Dtype, ModelShapes } from "../device/device.ts";
import { Progress } from "../log/progress.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { Model } from "./open-model.ts";

/** A model in one role. */
export interface Prepared {
  /** Named beside the progress. */
  readonly name: string;
  readonly model: Pick<Model, "decoder" | "adapter">;
  /** Whether it learns: its adapter, or without one its weights. */
  readonly learns: boolean;
}

/** Kernels of one decoder for one rank of adapters. */
interface Preparation {
  readonly names: string[];
  readonly decoder: Decoder;
  readonly trains: ModelShapes["trains"];
  readonly loraRank: number;
}

/** Returns at once on devices that have nothing to compile. @throws DeviceError when a kernel does not compile. */
export async function prepareDevice(
  device: Device,
  models: readonly Prepared[],
  cache: Dtype,
  moments: NonNullable<ModelShapes["moments"]> = "f32",
): Promise<void> {
  if (device.prepare === undefined) return;
  for (const { names, decoder, trains, loraRank } of preparations(models)) {
    const { config, dtype } = decoder;
    let progress: Progress | null = null;
    await device.prepare({ ...config, weights: dtype, cache, trains, loraRank, moments }, (done, total) => {
      progress ??= new Progress({
        label: `compiling kernels for the ${names.join(" and the ")}`,
        total,
        unit: "kernels",
        plainInterval: 2000,
      });
      progress.update(done);
    });
    // Assigned in the callback, which the compiler does not see.
    (progress as Progress | null)?.finish();
  }
}

/** One for each decoder and rank; a role without an adapter needs nothing that one with an adapter on the same weights does not. */
export function preparations(models: readonly Prepared[]): Preparation[] {
  const all: Preparation[] = [];
  const withAdapter = ({ model }: Prepared): boolean => model.adapter !== undefined;
  for (const { name, model, learns } of [...models].sort((a, b) => Number(withAdapter(b)) - Number(withAdapter(a)))) {
    const { decoder, adapter } = model;
    const trains = !learns ? "nothing" : adapter === undefined ? "weights" : "adapters";
    for (const loraRank of adapter === undefined ? [0] : ranksOf(decoder, adapter)) {
      const same = all.find((one) => one.decoder === decoder && (loraRank === 0 || one.loraRank === loraRank));
      // What learns comes first in every list of roles, so the one that is there asks for at least as much.
      if (same === undefined) all.push({ names: [name], decoder, trains, loraRank });
      else if (!same.names.includes(name)) same.names.push(name);
    }
  }
  return all;
}

/** Its layers may differ. */
function ranksOf(decoder: Decoder, adapter: string): Set<number> {
  const pairs = decoder.blocks.flatMap(({ linears }) => [...linears.values()].map((linear) => linear.adapters.get(adapter)));
  return new Set(pairs.flatMap((pair) => (pair === undefined ? [] : [pair.a.rows])));
}

/** The command line of the bench suite. */
import { parseArgs } from "node:util";

export const help = `npm run bench [-- OPTIONS] [NAME ...]

Runs the benches whose names contain one of NAME, all of them without a NAME; those of scaling/ only where NAME is how theirs begin.

  --device cpu|webgpu|auto   auto (the default) takes a hardware adapter if there is one, else the CPU
  --precision f32|f16        operands of matrix products on WebGPU; f16 where the adapter has shader-f16
  --sizes small|full|auto    small: reduced models and shapes, for software adapters; auto decides by the adapter
  --models 0.5B,1.5B,3B      the shapes to run
  --budget SECONDS           benches that have not begun by then are left out, and named
  --rounds N                 interleaved rounds, of which medians are taken (BENCH_ROUNDS; 7 on the CPU, 5 on hardware, 3 on software)
  --seconds S                what one round should take, in seconds: steps are repeated to fill it
  --no-peers                 ours only
  --adapter NAME             part of an adapter's name
  --backend null|vulkan|...  Dawn's backend; null computes nothing, so only js/ benches say something there
  --peak-tflops X            peak of the adapter for MFU, where the table does not know it (bench/peaks.ts)
  --peak-gbps X              peak memory bandwidth, GB/s
  --memory-gb X              memory of the adapter: benches that need more are refused, with the numbers
  --json FILE                keeps the last line in a file, written anew after every bench
  --save-rates               keeps what training, prefill and decode benches measured in ~/.cache/zerosearch/rates.json, from which
                             node train.js --dry-run estimates the time of a step
  --rates FILE               keeps them in FILE instead
  --dry                      every bench on an adapter that says it is an NVIDIA H200 and computes nothing: shows that all of it can be
                             asked for at full size; the times mean nothing
  --figure FILE              draws cost against size of the scaling/ benches that were run, as SVG
  --long                     scaling/memory takes 1,000 steps instead of 200
  --list                     names only
`;

export interface Options {
  readonly device: "cpu" | "webgpu" | "auto";
  readonly precision: "f32" | "f16" | null;
  readonly sizes: "small" | "full" | "auto";
  readonly models: readonly string[] | null;
  readonly budget: number;
  readonly rounds: number | null;
  readonly seconds: number | null;
  readonly peers: boolean;
  readonly adapter: string | null;
  readonly backend: "null" | "vulkan" | "metal" | "d3d12" | null;
  readonly peakTflops: number | null;
  readonly peakGbps: number | null;
  readonly memoryGb: number | null;
  readonly json: string | null;
  /** Where rates are kept; null: nowhere, "": the user's own file. */
  readonly rates: string | null;
  readonly dry: boolean;
  /** Where curves are drawn; null: nowhere. */
  readonly figure: string | null;
  readonly long: boolean;
  readonly list: boolean;
  readonly names: readonly string[];
}

/** @throws Error that a person can read. Null where the help was asked for. */
export function readOptions(argv: readonly string[]): Options | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      device: text,
      precision: text,
      sizes: text,
      models: text,
      budget: text,
      rounds: text,
      seconds: text,
      "no-peers": flag,
      adapter: text,
      backend: text,
      "peak-tflops": text,
      "peak-gbps": text,
      "memory-gb": text,
      json: text,
      "save-rates": flag,
      rates: text,
      dry: flag,
      figure: text,
      long: flag,
      list: flag,
      help: flag,
    },
  });
  if (values.help === true) return null;
  const number = (name: string, value: string | undefined): number | null => {
    if (value === undefined) return null;
    if (!(Number(value) > 0)) throw new Error(`bench: --${name} is wrong; expected a number above 0, got ${value}`);
    return Number(value);
  };
  const choice = <T extends string>(name: string, value: string | undefined, of: readonly T[]): T | null => {
    if (value === undefined) return null;
    if (!of.includes(value as T)) throw new Error(`bench: --${name} is wrong; expected ${of.join(", ")}, got ${value}`);
    return value as T;
  };
  return {
    device: values.dry === true ? "webgpu" : (choice("device", values.device, ["cpu", "webgpu", "auto"]) ?? "auto"),
    precision: choice("precision", values.precision, ["f32", "f16"]),
    sizes: choice("sizes", values.sizes, ["small", "full", "auto"]) ?? "auto",
    models: values.models?.split(",") ?? null,
    budget: number("budget", values.budget) ?? Infinity,
    rounds: number("rounds", values.rounds ?? process.env["BENCH_ROUNDS"]),
    seconds: number("seconds", values.seconds),
    peers: values["no-peers"] !== true && values.dry !== true,
    adapter: values.adapter ?? null,
    backend: values.dry === true ? "null" : choice("backend", values.backend, ["null", "vulkan", "metal", "d3d12"]),
    peakTflops: number("peak-tflops", values["peak-tflops"]),
    peakGbps: number("peak-gbps", values["peak-gbps"]),
    memoryGb: number("memory-gb", values["memory-gb"]),
    json: values.json ?? null,
    rates: values.dry === true ? null : (values.rates ?? (values["save-rates"] === true ? "" : null)),
    dry: values.dry === true,
    figure: values.figure ?? null,
    long: values.long === true,
    list: values.list === true,
    names: positionals,
  };
}

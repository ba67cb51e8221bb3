/** Which adapters there are, asked in a process of its own: a driver that crashes takes its process with it. */
import { fileURLToPath } from "node:url";
import { runApart } from "./apart.ts";
import { dawnFlags } from "./dawn.ts";
import { factsOf, type AdapterFacts } from "./webgpu/adapter.ts";

export interface FoundAdapter extends AdapterFacts {
  /** `vulkan`, `metal`, `d3d12`. */
  readonly backend: string;
  /** The driver's own name of it, which `adapter` of DawnOptions is compared with. */
  readonly fullName: string;
  /** How many have this name; only the first can be had. */
  readonly count: number;
}

export interface Probe {
  /** In Dawn's order: discrete GPUs first, software last. */
  readonly adapters: readonly FoundAdapter[];
  /** Those that were named but cannot be used, and why. */
  readonly unusable: readonly { readonly fullName: string; readonly why: string }[];
  /** Why nothing, or not all, could be found out: Dawn does not load, a driver crashed or hangs. */
  readonly failure: string | null;
  /** What Dawn and the drivers said meanwhile. */
  readonly messages: readonly string[];
}

export interface ProbeOptions {
  /** What runs a script, and its first arguments: this Node by default. */
  readonly command?: readonly string[];
  /** The environment of the drivers: this process's by default. */
  readonly env?: NodeJS.ProcessEnv;
  /** Milliseconds after which a driver is taken to hang. Default 30 s: the first start of a GPU that slept takes seconds. */
  readonly timeout?: number;
}

interface Row {
  readonly asking?: string;
  readonly adapter?: { readonly backend: string; readonly name: string; readonly count: number };
  readonly unusable?: { readonly name: string; readonly why: string };
  readonly failure?: string;
  readonly done?: true;
}

/** Lists all adapters that Dawn finds; some 0.1 s. Never throws, and no driver can harm this process. */
export async function probeAdapters({ command = [process.execPath], env, timeout = 30_000 }: ProbeOptions = {}): Promise<Probe> {
  // src/device/ and dist/device/ lie equally deep
  const program = fileURLToPath(new URL("../../bin/list-adapters.js", import.meta.url));
  const { stdout, stderr, end } = await runApart([...command, program, ...dawnFlags()], { env, timeout });
  const rows = stdout.split("\n").flatMap((line): Row[] => (line.startsWith("{") ? [JSON.parse(line) as Row] : []));
  const adapters: FoundAdapter[] = [];
  const unusable: { fullName: string; why: string }[] = [];
  let asking: string | undefined;
  for (const row of rows) {
    asking = row.asking ?? asking;
    if (row.adapter !== undefined) {
      const { backend, name, count } = row.adapter;
      // the row has the parts of a GPUAdapter that are data
      adapters.push({ ...factsOf(row.adapter as unknown as GPUAdapter), backend, fullName: name, count });
    }
    if (row.unusable !== undefined) unusable.push({ fullName: row.unusable.name, why: row.unusable.why });
  }
  const told = rows.find((row) => row.failure !== undefined)?.failure;
  const complete = rows.some((row) => row.done);
  const failure = told ?? (complete ? null : `listing the adapters ${end}${asking === undefined ? "" : ` at ${asking}`}`);
  return { adapters, unusable, failure, messages: spoken(stderr) };
}

/** Lines that say something of the machine; not where in Dawn they come from, nor what it says of every adapter. */
function spoken(stderr: string): string[] {
  const lines = stderr.split("\n").map((line) => line.trim());
  const worth = lines.filter((line) => line !== "" && !/^(at |- While )|artificially reduced|XDG_RUNTIME_DIR/.test(line));
  return [...new Set(worth)];
}

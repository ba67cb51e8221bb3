/** What is asked of the machine, and how much memory a GPU has: WebGPU does not say, the system does here and there. */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { probeAdapters, type Probe } from "./probe.ts";
import { attempt } from "../util/errors.ts";

export interface Memory {
  readonly bytes: number;
  /** Who says so. */
  readonly source: string;
}

/** What is asked of the machine, so that a test can show another one. */
export interface Machine {
  readonly platform: NodeJS.Platform;
  /** Bytes of the processor's memory that this process may use. */
  readonly memory: number;
  /** Names in a folder; none where there is no such folder. */
  list(folder: string): readonly string[];
  /** Null where it cannot be read. */
  read(file: string): string | null;
  /** What a program prints; null where there is no such program, or it fails. */
  run(program: string, words: readonly string[]): Promise<string | null>;
  /** The adapters that WebGPU finds. */
  adapters(): Promise<Probe>;
}

/** The machine this runs on. */
export const thisMachine: Machine = {
  platform: process.platform,
  // A container may have less than its machine; without a limit this is 0, or more than there is.
  memory: Math.min(totalmem(), process.constrainedMemory() || Infinity),
  list: (folder) => attempt(() => readdirSync(folder), []),
  read: (file) => attempt(() => readFileSync(file, "utf8"), null),
  run: (program, words) =>
    new Promise((resolve) => {
      execFile(program, [...words], { timeout: 10_000 }, (error, stdout) => {
        resolve(error === null ? stdout : null);
      });
    }),
  adapters: () => probeAdapters(),
};

/** Less than this is a window into the processor's memory, as processors with a GPU inside have it: it is no limit. */
const leastOwn = 2 * 2 ** 30;

/** The memory of an adapter; null where nothing tells, or several GPUs could be meant that differ. */
export async function gpuMemory(
  adapter: { readonly vendor: string; readonly fullName: string; readonly software: boolean },
  machine: Machine = thisMachine,
): Promise<Memory | null> {
  if (adapter.software) return { bytes: machine.memory, source: "this machine's memory" };
  if (machine.platform === "darwin") return { bytes: machine.memory, source: "this machine's memory, which the GPU shares" };
  if (adapter.vendor === "nvidia") return nvidiaMemory(adapter.fullName, machine);
  return adapter.vendor === "amd" ? amdMemory(machine) : null;
}

async function nvidiaMemory(name: string, machine: Machine): Promise<Memory | null> {
  const text = await machine.run("nvidia-smi", ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]);
  const rows = (text ?? "").split("\n").flatMap((line) => {
    const [, title = "", mebibytes = ""] = /^(.*),\s*(\d+)\s*$/.exec(line) ?? [];
    return title === "" ? [] : [{ title: title.trim(), bytes: Number(mebibytes) * 2 ** 20 }];
  });
  // Dawn may say nvidia-h200 where nvidia-smi says NVIDIA H200.
  const plain = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const named = rows.filter(({ title }) => plain(name).includes(plain(title)) || plain(title).includes(plain(name)));
  return only(
    (named.length > 0 ? named : rows).map(({ bytes }) => bytes),
    "nvidia-smi",
  );
}

function amdMemory(machine: Machine): Memory | null {
  const folder = "/sys/class/drm";
  const cards = machine.list(folder).filter((card) => /^card\d+$/.test(card));
  const sizes = cards.flatMap((card) => {
    const device = `${folder}/${card}/device`;
    const bytes = Number(machine.read(`${device}/mem_info_vram_total`) ?? NaN);
    return machine.read(`${device}/vendor`)?.trim() === "0x1002" && bytes >= leastOwn ? [bytes] : [];
  });
  return only(sizes, `${folder}/card*/device/mem_info_vram_total`);
}

function only(sizes: readonly number[], source: string): Memory | null {
  const [bytes] = sizes;
  return bytes === undefined || sizes.some((other) => other !== bytes) ? null : { bytes, source };
}

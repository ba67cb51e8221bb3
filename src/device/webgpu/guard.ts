/**
 * Canaries around every buffer, so that a test sees what a kernel writes outside of what was asked for, and reads there as NaN. In front lie
 * 256 bytes, the least that a binding may be moved by; behind the last byte asked for lie 4 KiB, which the kernel's binding takes in: with
 * Dawn's own bounds checks on, an access however far out, below the first element too, is moved to the binding's last elements, and seen.
 */
import { DeviceError } from "../../util/errors.ts";
import type { PooledBuffer } from "./buffer-pool.ts";
import { bufferUsage } from "./constants.ts";
import type { Downloads } from "./downloads.ts";
import type { GpuBuffer } from "./kernel.ts";
import type { Pipeline } from "./pipelines.ts";
import type { Recorder } from "./recorder.ts";

/** Bytes in front of what is asked for, and behind it. */
const front = 256;
const tail = 4096;
/** Bytes that a guarded buffer is larger. */
export const guardBytes = front + tail;
/** Broken guards that are told of in one report, at most. */
const reported = 15;
/** Kernels named for a buffer: the last that wrote it. */
const named = 4;

/** Its words are unlike those of other buffers and places, so that copying one canary onto another shows too. All are NaN as f32, f16 and bf16. */
const text = `
struct Params { words: u32, slot: u32, check: u32, poison: u32 }
@group(0) @binding(0) var<storage, read_write> memory: array<u32>;
@group(0) @binding(1) var<storage, read_write> report: array<atomic<u32>>;
@group(0) @binding(2) var<uniform> p: Params;
const FRONT = ${front / 4}u;
const TAIL = ${tail / 4}u;
const NONE = 0xffffffffu;
var<workgroup> broken: atomic<u32>;
fn canary(i: u32) -> u32 {
  let h = (i * 2654435761u) ^ (p.slot * 2246822519u);
  return 0x7fc07fc0u | ((h >> 8u) & 0x3fu) | (h & 0x3f0000u);
}
fn place(i: u32) -> u32 { return select(i, i + p.words, i >= FRONT); }
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  if (p.check == 0u) {
    for (var i = wg.x * 256u + t; i < FRONT + TAIL; i += grid.x * 256u) { memory[place(i)] = canary(place(i)); }
    if (p.poison != 0u) {
      for (var i = wg.x * 256u + t; i < p.words; i += grid.x * 256u) { memory[FRONT + i] = canary(FRONT + i); }
    }
    return;
  }
  if (t == 0u) { atomicStore(&broken, NONE); }
  workgroupBarrier();
  for (var i = t; i < FRONT + TAIL; i += 256u) {
    if (memory[place(i)] != canary(place(i))) { atomicMin(&broken, place(i)); }
  }
  workgroupBarrier();
  if (t != 0u || atomicLoad(&broken) == NONE) { return; }
  let n = atomicAdd(&report[0], 1u);
  if (n >= ${reported}u) { return; }
  let at = atomicLoad(&broken);
  atomicStore(&report[4u * n + 4u], p.slot);
  atomicStore(&report[4u * n + 5u], at);
  atomicStore(&report[4u * n + 6u], memory[at]);
}
`;

/** The source of the guard's own kernel, beside those of kernels/wgsl/. */
export const guardSource = ["guard", text] as const;

interface Guarded {
  readonly label: string;
  /** Asked for. */
  readonly bytes: number;
  /** The kernels that wrote it last. */
  readonly writers: string[];
  /** All of the buffer, the guards too; null once it has been given back. */
  memory: GpuBuffer | null;
}

export class Guard {
  readonly #maxBinding: number;
  readonly #recorder: Recorder;
  readonly #downloads: Downloads;
  readonly #report: GpuBuffer;
  readonly #guarded = new Map<number, Guarded>();

  /** @param maxBinding bytes of a buffer that a kernel may see: larger ones have no guards */
  constructor(gpu: GPUDevice, recorder: Recorder, downloads: Downloads, maxBinding: number) {
    this.#maxBinding = maxBinding;
    this.#recorder = recorder;
    this.#downloads = downloads;
    const size = 16 * (reported + 1);
    const buffer = gpu.createBuffer({ size, usage: bufferUsage.storage | bufferUsage.copySrc, label: "report of the guards" });
    this.#report = { buffer, id: -1, bytes: size, offset: 0, bound: size };
    recorder.witness = (pipeline, buffers) => {
      this.#note(pipeline, buffers);
    };
  }

  /** Called where `bytes` are taken: changes what kernels see of the buffer. @param id of its own @param poison fills it too */
  taken(buffer: PooledBuffer, bytes: number, id: number, label: string, poison: boolean): void {
    const words = Math.ceil(bytes / 4);
    const all = buffer.bytes + guardBytes;
    if (all > this.#maxBinding) return;
    // ids of aliases are negative: no buffer of the pool has one
    const memory = { buffer: buffer.buffer, id: -1 - id, bytes: all, offset: 0, bound: all };
    this.#guarded.set(id, { label, bytes, writers: [], memory });
    this.#run(memory, id, words, { check: false, poison });
    Object.assign(buffer, { id, offset: front, bound: 4 * words + tail, usedIn: this.#recorder.serial });
  }

  /** Called where it is given back. */
  given(buffer: PooledBuffer): void {
    const guarded = this.#guarded.get(buffer.id);
    if (guarded?.memory === undefined || guarded.memory === null) return;
    this.check(buffer);
    this.#recorder.forget(buffer);
    this.#recorder.forget(guarded.memory);
    guarded.memory = null;
  }

  /** Looks whether the guards of a buffer, or of all that are in use, are whole; `verify` says what was found. */
  check(buffer?: GpuBuffer): void {
    const each = buffer === undefined ? this.#guarded : [[buffer.id, this.#guarded.get(buffer.id)] as const];
    for (const [id, guarded] of each) {
      if (guarded?.memory === undefined || guarded.memory === null) continue;
      this.#run(guarded.memory, id, Math.ceil(guarded.bytes / 4), { check: true, poison: false });
    }
  }

  /** What was found broken so far, as an error; null where nothing was. */
  async verify(): Promise<DeviceError | null> {
    let words = new Uint32Array();
    await this.#downloads.read(this.#report, 0, this.#report.bytes, (memory) => {
      words = new Uint32Array(memory.slice(0, this.#report.bytes));
    });
    const [count = 0] = words;
    if (count === 0) return null;
    const found = Array.from({ length: Math.min(count, reported) }, (_, n) => this.#say(words.subarray(4 * n + 4, 4 * n + 8)));
    return new DeviceError({
      where: "guard",
      what: `a kernel wrote outside of ${count === 1 ? "a buffer" : `${count} buffers`}: ${[...new Set(found)].join("; ")}`,
    });
  }

  #say([id = 0, word = 0, value = 0]: Uint32Array): string {
    const { label, bytes, writers } = this.#guarded.get(id)!;
    const at = 4 * word - front;
    const place = at < 0 ? `${-at} bytes before its start` : `${at - bytes} bytes behind its ${bytes} bytes`;
    return `${label}, ${place} (0x${value.toString(16)}), written last by ${writers.join(", then ") || "no kernel"}`;
  }

  #note({ key, writes }: Pipeline, buffers: readonly GpuBuffer[]): void {
    for (const [i, { id }] of buffers.entries()) {
      const writers = writes[i] === true ? this.#guarded.get(id)?.writers : undefined;
      if (writers === undefined || writers.at(-1) === key) continue;
      writers.push(key);
      if (writers.length > named) writers.shift();
    }
  }

  #run(memory: GpuBuffer, slot: number, words: number, { check, poison }: { readonly check: boolean; readonly poison: boolean }): void {
    const groups = poison ? Math.min(1024, Math.ceil((words + guardBytes / 4) / 1024)) : 1;
    this.#recorder.dispatch({
      kernel: "guard",
      buffers: [memory, this.#report],
      uints: [words, slot, Number(check), Number(poison)],
      grid: [groups, 1, 1],
    });
  }
}

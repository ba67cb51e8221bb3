/**
 * Kernel calls that have run once, kept to be run again by one call into WebAssembly: a decode step of a small model costs JavaScript as
 * much as its arithmetic costs the kernels otherwise.
 *
 * What was allocated and released in between, and the calls' scratch, are laid out anew in one range, which is taken for each run only:
 * what stays are call blocks and descriptors, some 200 bytes a call. Calls that go row by row may run on fewer rows than they were captured
 * with: their descriptors say so then, and the batch of a rollout shrinks without a new capture.
 */
import type { ByRow } from "../device.ts";
import type { KernelName } from "../kernels.ts";
import type { CpuMemory } from "./memory.ts";
import { preparePanels, type PackedOperand } from "./panels.ts";
import { CpuStorage, DESCRIPTOR_BYTES, INLINE_SHARDS, type Panels } from "./storage.ts";

/** One call of a kernel as it ran. `storages` are inputs, then outputs. */
export interface RecordedCall {
  readonly id: number;
  readonly kernel: KernelName;
  readonly dims: readonly number[];
  readonly storages: readonly (CpuStorage | null)[];
  readonly outputs: readonly (CpuStorage | null)[];
  readonly operand: PackedOperand | undefined;
  /** Whether the operand's panels were kept, on which the scratch depends. */
  readonly kept: boolean;
  readonly scratchBytes: number;
}

/** What is asked for while a capture runs. */
export class Recording {
  readonly calls: RecordedCall[] = [];
  /** Where the scratch of each call lies in the range. */
  readonly scratch: number[] = [];
  /** Where the shards of each storage that was made inside lie in the range. */
  readonly places = new Map<CpuStorage, readonly number[]>();
  readonly #layout = new Layout();
  /** Set by what cannot be run again from a list: it is asked for anew each time then. */
  unrepeatable = false;

  get bytes(): number {
    return this.#layout.end;
  }

  allocated(storage: CpuStorage): void {
    if (storage.shards > INLINE_SHARDS) this.unrepeatable = true;
    this.places.set(
      storage,
      storage.addresses.map((_, shard) => this.#layout.take(storage.shardBytes(shard))),
    );
  }

  released(storage: CpuStorage): void {
    for (const place of this.places.get(storage) ?? []) this.#layout.give(place);
  }

  called(call: RecordedCall): void {
    this.calls.push(call);
    const place = call.scratchBytes === 0 ? -1 : this.#layout.take(call.scratchBytes);
    this.#layout.give(place);
    this.scratch.push(place);
  }
}

/** Ranges of an address space that starts at 0; each takes the first gap that is wide enough. */
class Layout {
  end = 0;
  readonly #live: { readonly from: number; readonly to: number }[] = [];

  take(bytes: number): number {
    const size = Math.ceil(Math.max(1, bytes) / 64) * 64;
    let from = 0;
    let i = 0;
    for (let next = this.#live[0]; next !== undefined && next.from - from < size; next = this.#live[i]) {
      from = next.to;
      i++;
    }
    this.#live.splice(i, 0, { from, to: from + size });
    this.end = Math.max(this.end, from + size);
    return from;
  }

  give(from: number): void {
    const i = this.#live.findIndex((one) => one.from === from);
    if (i >= 0) this.#live.splice(i, 1);
  }
}

/** What replays ask of the device. */
export interface ReplayKernels {
  run(list: number, count: number): void;
  scratchBytes(id: number, args: number): number;
}

/** Kernels of which a row of the outputs depends on the same row of what goes by row, and on nothing else that does. */
const rowWise: ReadonlySet<KernelName> = new Set<KernelName>([
  ...(["matmul", "add", "accumulate", "fill", "round", "embedding", "rms_norm", "rope"] as const),
  ...(["kv_write", "attention_paged", "swiglu", "sample", "advance"] as const),
]);

interface KeptOperand {
  readonly operand: PackedOperand;
  readonly kept: boolean;
}

/** A recording as the kernels see it. */
export class CapturedCalls {
  readonly #memory: CpuMemory;
  readonly #bytes: number;
  readonly #calls: readonly RecordedCall[];
  /** The list of calls, their blocks and descriptors. */
  readonly #block: number;
  /** What was there before, and must be yet. */
  readonly #outside: readonly CpuStorage[];
  readonly #written: readonly CpuStorage[];
  readonly #operands: readonly KeptOperand[];
  /** Words that hold an address in the range, and how far into it each is. */
  readonly #words: number[] = [];
  readonly #offsets: number[] = [];
  #base = -1;
  /** Rows that the calls were captured with; 0 where they cannot run on fewer. */
  readonly #most: number;
  /** Those that they are cut to now. */
  #rows: number;
  /** Words that say how many rows there are, and how many more than `#rows` each counts. */
  readonly #rowWords: number[] = [];
  readonly #rowExtras: number[] = [];
  /** Floats that do, in call blocks. */
  readonly #rowFloats: number[] = [];
  readonly #floats: Float64Array;
  /** Call blocks. */
  readonly #args: number[] = [];

  private constructor(memory: CpuMemory, recording: Recording, byRow: ByRow | undefined) {
    const { calls, places, bytes } = recording;
    this.#memory = memory;
    this.#bytes = bytes;
    this.#calls = calls;
    this.#floats = new Float64Array(memory.memory.buffer);
    const isOutside = (storage: CpuStorage): boolean => !(places.has(storage) && storage.released);
    const named = new Set(calls.flatMap(({ storages }) => storages.filter((storage) => storage !== null)));
    const inside = [...named].filter((storage) => !isOutside(storage));
    this.#outside = [...named].filter(isOutside);
    this.#written = [...new Set(calls.flatMap(({ outputs }) => outputs.filter((storage) => storage !== null)))].filter(isOutside);
    const operands = new Map<CpuStorage, KeptOperand>();
    for (const { operand, kept } of calls) if (operand !== undefined) operands.set(operand.parameter, { operand, kept });
    this.#operands = [...operands.values()];
    const going = byRow === undefined ? null : rowsOf(calls, inside, byRow);
    this.#most = this.#rows = going === null ? 0 : byRow!.rows;

    // the list, then for each call a word for its scratch and its block, then descriptors
    const blockBytes = calls.map(({ dims, storages }) => 8 + 8 * dims.length + 8 * Math.ceil(storages.length / 2));
    const listBytes = 8 * calls.length;
    const firstDescriptor = Math.ceil((listBytes + blockBytes.reduce((sum, one) => sum + one, 0)) / 64) * 64;
    const described = [...new Set([...inside, ...(going ?? [])])];
    this.#block = memory.take(firstDescriptor + DESCRIPTOR_BYTES * described.length, {
      kind: "scratch",
      label: "reserved for captured calls",
    });
    if (memory.hollow) return;
    const { words } = memory;
    const descriptors = new Map(described.map((storage, i) => [storage, this.#block + firstDescriptor + i * DESCRIPTOR_BYTES]));
    for (const [storage, descriptor] of descriptors) {
      const { table, addresses } = storage;
      const made = !isOutside(storage);
      storage.describe(words, { descriptor, table, addresses: made || table !== 0 ? [] : addresses });
      if (made) places.get(storage)?.forEach((offset, shard) => this.#place((descriptor + 32) / 4 + shard, offset));
      if (going?.has(storage) !== true) continue;
      const vector = storage.rows === 1;
      this.#rowWords.push(descriptor / 4 + (vector ? 5 : 4));
      this.#rowExtras.push((vector ? storage.cols : storage.rows) - this.#most);
    }
    let at = this.#block + listBytes;
    for (const [i, { id, kernel, dims, storages, scratchBytes }] of calls.entries()) {
      const args = at + 8;
      this.#args.push(args);
      words[this.#block / 4 + 2 * i] = id;
      words[this.#block / 4 + 2 * i + 1] = args;
      if (scratchBytes === 0) words[args / 4 - 1] = 0;
      else this.#place(args / 4 - 1, recording.scratch[i] ?? 0);
      this.#floats.set(dims, args / 8);
      if (going !== null && kernel === "matmul") this.#rowFloats.push(args / 8);
      storages.forEach((storage, j) => {
        words[args / 4 + 2 * dims.length + j] = storage === null ? 0 : (descriptors.get(storage) ?? storage.descriptor);
      });
      at += blockBytes[i] ?? 0;
    }
  }

  /** Null for what a list cannot repeat: panels of one parameter in two orientations, or of one that is written. */
  static of(memory: CpuMemory, recording: Recording, byRow: ByRow | undefined): CapturedCalls | null {
    if (recording.unrepeatable || recording.calls.length === 0) return null;
    const orientations = new Map<CpuStorage, 0 | 1>();
    for (const { operand } of recording.calls) {
      if (operand === undefined) continue;
      const { parameter, orientation } = operand;
      if ((orientations.get(parameter) ?? orientation) !== orientation) return null;
      orientations.set(parameter, orientation);
    }
    if (recording.calls.some(({ outputs }) => outputs.some((output) => output !== null && orientations.has(output)))) return null;
    return new CapturedCalls(memory, recording, byRow);
  }

  /** Runs the calls; false, and nothing has run, where a storage or panels have gone or come since, so that the calls must be captured anew. */
  run(kernels: ReplayKernels, rows: number): boolean {
    for (const storage of this.#outside) if (storage.released) return false;
    const memory = this.#memory;
    const base = memory.take(this.#bytes, { kind: "scratch", label: "reserved for captured calls, while they run" });
    try {
      const used: Panels[] = [];
      for (const { operand, kept } of this.#operands) {
        const panels = preparePanels(memory, operand);
        if ((panels !== undefined) !== kept) return false;
        if (panels !== undefined) used.push(panels);
      }
      if (memory.hollow) return true;
      if (base !== this.#base) this.#rebase(base);
      const wanted = Math.min(rows, this.#most);
      if (wanted !== this.#rows && !this.#cut(kernels, wanted)) this.#cut(kernels, this.#most);
      memory.poison(base, this.#bytes);
      kernels.run(this.#block, this.#calls.length);
      for (const panels of used) panels.ready = true;
      for (const storage of this.#written) storage.written();
    } finally {
      memory.free(base);
    }
    return true;
  }

  free(): void {
    this.#memory.free(this.#block);
  }

  #place(word: number, offset: number): void {
    this.#words.push(word);
    this.#offsets.push(offset);
  }

  #rebase(base: number): void {
    this.#base = base;
    const { words } = this.#memory;
    for (let i = 0; i < this.#words.length; i++) words[this.#words[i]!] = base + this.#offsets[i]!;
  }

  /** Tells the calls of so many rows; false where one would need more scratch than it has. */
  #cut(kernels: ReplayKernels, rows: number): boolean {
    this.#rows = rows;
    const { words } = this.#memory;
    for (let i = 0; i < this.#rowWords.length; i++) words[this.#rowWords[i]!] = rows + this.#rowExtras[i]!;
    for (const at of this.#rowFloats) this.#floats[at] = rows;
    return this.#calls.every(({ id, scratchBytes }, i) => kernels.scratchBytes(id, this.#args[i]!) <= scratchBytes);
  }
}

/** Those storages that go by row, all of the ones made inside among them; null where the calls cannot be cut to fewer rows. */
function rowsOf(calls: readonly RecordedCall[], inside: readonly CpuStorage[], { rows, storages }: ByRow): ReadonlySet<CpuStorage> | null {
  const going = new Set([...inside, ...storages.filter((storage) => storage instanceof CpuStorage)]);
  const goes = (storage: CpuStorage | null | undefined): boolean => storage !== null && storage !== undefined && going.has(storage);
  const fits = (storage: CpuStorage): boolean => storage.rows === rows || (storage.rows === 1 && storage.cols >= rows);
  const cuts = ({ kernel, dims, storages: [first], outputs }: RecordedCall): boolean =>
    rowWise.has(kernel) &&
    (kernel === "kv_write" || outputs.every(goes)) &&
    (kernel !== "matmul" || (goes(first) && dims[0] === rows && dims[3] === 0));
  return rows > 1 && [...going].every(fits) && calls.every(cuts) ? going : null;
}

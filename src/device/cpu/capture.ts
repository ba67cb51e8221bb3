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
  /** Runs lists side by side, each by one thread: `lists` is a call block of their number, then the address and the calls of each. */
  runApart(lists: number): void;
  scratchBytes(id: number, args: number): number;
}

/** Kernels of which a row of the outputs depends on the same row of what goes by row, and on nothing else that does. */
const rowWise: ReadonlySet<KernelName> = new Set<KernelName>([
  ...(["matmul", "add", "accumulate", "fill", "round", "embedding", "rms_norm", "rope"] as const),
  ...(["kv_write", "attention_paged", "swiglu", "sample", "advance"] as const),
]);

/**
 * A thread that runs all calls alone reads all weights instead of its share of them, which is worth it for so many rows: 4, and one for
 * every 2 MiB of weights as panels of floats.
 */
const FEWEST_ALONE = 4;
const WEIGHT_BYTES_A_ROW = 2 ** 21;

interface KeptOperand {
  readonly operand: PackedOperand;
  readonly kept: boolean;
}

/** A recording as the kernels see it. */
export class CapturedCalls {
  readonly #memory: CpuMemory;
  readonly #bytes: number;
  /** The lists of calls, their blocks and descriptors. */
  readonly #block: number;
  /** The call block that names the lists. */
  readonly #apart: number;
  /** What was there before, and must be yet. */
  readonly #outside: readonly CpuStorage[];
  readonly #written: readonly CpuStorage[];
  readonly #operands: readonly KeptOperand[];
  /** Rows that the calls were captured with; 0 where they cannot run on fewer. */
  readonly #most: number;
  /** The same calls several times, so that each of as many threads can run all of them on its share of the rows; the first for all rows too. */
  readonly #lists: readonly CallList[];
  /** Of them; where nothing is computed none is made. */
  readonly #count: number;
  /** Rows of a list that runs beside others. */
  #fewest = FEWEST_ALONE;
  #base = -1;

  private constructor(memory: CpuMemory, { calls, places, bytes, scratch }: Recording, byRow: ByRow | undefined, threads: number) {
    this.#memory = memory;
    this.#bytes = bytes;
    const isOutside = (storage: CpuStorage): boolean => !(places.has(storage) && storage.released);
    const named = new Set(calls.flatMap(({ storages }) => storages.filter((storage) => storage !== null)));
    const inside = [...named].filter((storage) => !isOutside(storage));
    this.#outside = [...named].filter(isOutside);
    this.#written = [...new Set(calls.flatMap(({ outputs }) => outputs.filter((storage) => storage !== null)))].filter(isOutside);
    const operands = new Map<CpuStorage, KeptOperand>();
    for (const { operand, kept } of calls) if (operand !== undefined) operands.set(operand.parameter, { operand, kept });
    this.#operands = [...operands.values()];
    const going = byRow === undefined ? null : rowsOf(calls, inside, byRow);
    this.#most = going === null ? 0 : byRow!.rows;

    const count = going === null ? 1 : this.#listsFor(going, threads);
    this.#count = count;
    // each list, then for each call a word for its scratch and its block, then descriptors
    const described = [...new Set([...inside, ...(going ?? [])])];
    const listBytes = bytesOf(calls) + DESCRIPTOR_BYTES * described.length;
    const apartBytes = count === 1 ? 0 : Math.ceil((8 + 8 * count) / 64) * 64;
    this.#block = memory.take(count * listBytes + apartBytes, { kind: "scratch", label: "reserved for captured calls" });
    this.#apart = this.#block + count * listBytes;
    this.#lists = memory.hollow
      ? []
      : Array.from({ length: count }, (_, i) => {
          const at = this.#block + i * listBytes;
          return new CallList({ memory, calls, scratch, at, places, described, going, rows: this.#most, isOutside });
        });
    if (count === 1 || memory.hollow) return;
    const { words } = memory;
    for (const [i, { at }] of this.#lists.entries()) words.set([at, calls.length], this.#apart / 4 + 2 + 2 * i);
  }

  /** Null for what a list cannot repeat: panels of one parameter in two orientations, or of one that is written. */
  static of(memory: CpuMemory, recording: Recording, byRow: ByRow | undefined, threads: number): CapturedCalls | null {
    if (recording.unrepeatable || recording.calls.length === 0) return null;
    const orientations = new Map<CpuStorage, 0 | 1>();
    for (const { operand } of recording.calls) {
      if (operand === undefined) continue;
      const { parameter, orientation } = operand;
      if ((orientations.get(parameter) ?? orientation) !== orientation) return null;
      orientations.set(parameter, orientation);
    }
    if (recording.calls.some(({ outputs }) => outputs.some((output) => output !== null && orientations.has(output)))) return null;
    return new CapturedCalls(memory, recording, byRow, threads);
  }

  /** Runs the calls; false, and nothing has run, where a storage or panels have gone or come since, so that the calls must be captured anew. */
  run(kernels: ReplayKernels, rows: number): boolean {
    for (const storage of this.#outside) if (storage.released) return false;
    const memory = this.#memory;
    const count = this.#count;
    const base = memory.take(count * this.#bytes, { kind: "scratch", label: "reserved for captured calls, while they run" });
    try {
      const used: Panels[] = [];
      for (const { operand, kept } of this.#operands) {
        const panels = preparePanels(memory, operand);
        if ((panels !== undefined) !== kept) return false;
        if (panels !== undefined) used.push(panels);
      }
      if (memory.hollow) return true;
      if (base !== this.#base) for (const [i, list] of this.#lists.entries()) list.rebase(base + i * this.#bytes);
      this.#base = base;
      memory.poison(base, count * this.#bytes);
      const wanted = Math.min(rows, this.#most);
      // panels that are not ready yet are packed by all threads together
      if (used.every(({ ready }) => ready) && this.#share(kernels, wanted)) kernels.runApart(this.#apart);
      else {
        const [first] = this.#lists;
        if (first?.cut(kernels, 0, wanted) === false) first.cut(kernels, 0, this.#most);
        kernels.run(this.#block, first?.length ?? 0);
      }
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

  /** How many threads may run all calls on some of the rows each. */
  #listsFor(going: ReadonlySet<CpuStorage>, threads: number): number {
    const weights = this.#operands.reduce((sum, { operand: { parameter } }) => sum + parameter.rows * parameter.cols * 4, 0);
    if ([...going].some(({ shards }) => shards > 1)) return 1;
    this.#fewest = Math.max(FEWEST_ALONE, Math.ceil(weights / WEIGHT_BYTES_A_ROW));
    return Math.max(1, Math.min(threads, Math.floor(this.#most / this.#fewest)));
  }

  /** Gives lists their shares of so many rows; false where two are not worth it, or one would need more scratch than it has. */
  #share(kernels: ReplayKernels, rows: number): boolean {
    const count = Math.min(this.#lists.length, Math.floor(rows / this.#fewest));
    if (count < 2) return false;
    this.#memory.words[this.#apart / 4] = count;
    const start = (i: number): number => Math.round((i * rows) / count);
    return this.#lists.slice(0, count).every((list, i) => list.cut(kernels, start(i), start(i + 1) - start(i)));
  }
}

interface ListParts {
  readonly memory: CpuMemory;
  readonly calls: readonly RecordedCall[];
  /** As of `Recording`. */
  readonly scratch: readonly number[];
  readonly places: ReadonlyMap<CpuStorage, readonly number[]>;
  /** Where the list lies. */
  readonly at: number;
  /** Storages with a descriptor of their own here: those made inside, and those that go by row. */
  readonly described: readonly CpuStorage[];
  readonly going: ReadonlySet<CpuStorage> | null;
  /** Rows that the calls were captured with; 0 where they cannot run on fewer. */
  readonly rows: number;
  readonly isOutside: (storage: CpuStorage) => boolean;
}

/** One list of calls, with call blocks and descriptors of its own. */
class CallList {
  readonly at: number;
  readonly length: number;
  readonly #words: Uint32Array;
  readonly #floats: Float64Array;
  readonly #calls: readonly RecordedCall[];
  /** Call blocks. */
  readonly #args: number[] = [];
  /** Words that hold an address in the range, and how far into it each is. */
  readonly #places: number[] = [];
  readonly #offsets: number[] = [];
  /** The rows that the calls are cut to now. */
  #first = 0;
  #rows: number;
  /** Whether their scratch suffices for so many: a product of fewer rows may want more. */
  #fits = true;
  readonly #captured: number;
  /** Words that say how many rows there are, and how many more than `#rows` each counts. */
  readonly #rowWords: number[] = [];
  readonly #rowExtras: number[] = [];
  /** Floats that do, in call blocks. */
  readonly #rowFloats: number[] = [];
  /** Words that hold the address of the first row, that of row 0, and the bytes of a row. */
  readonly #rowPlaces: { readonly word: number; readonly address: number; readonly bytes: number }[] = [];

  constructor({ memory, calls, scratch, places, at: start, described, going, rows, isOutside }: ListParts) {
    const { words } = memory;
    this.at = start;
    this.length = calls.length;
    this.#words = words;
    this.#floats = new Float64Array(memory.memory.buffer);
    this.#calls = calls;
    this.#captured = this.#rows = rows;
    const firstDescriptor = start + bytesOf(calls);
    const descriptors = new Map(described.map((storage, i) => [storage, firstDescriptor + i * DESCRIPTOR_BYTES]));
    for (const [storage, descriptor] of descriptors) {
      const { table, addresses } = storage;
      const made = !isOutside(storage);
      storage.describe(words, { descriptor, table, addresses: made || table !== 0 ? [] : addresses });
      if (made) places.get(storage)?.forEach((offset, shard) => this.#place((descriptor + 32) / 4 + shard, offset));
      if (going?.has(storage) !== true) continue;
      const vector = storage.rows === 1;
      const extra = (vector ? storage.cols : storage.rows) - rows;
      this.#rowWords.push(descriptor / 4 + (vector ? 5 : 4));
      this.#rowExtras.push(extra);
      const bytes = vector ? storage.rowBytes / storage.cols : storage.rowBytes;
      if (!made && extra === 0) this.#rowPlaces.push({ word: (descriptor + 32) / 4, address: addresses[0] ?? 0, bytes });
    }
    let at = start + 8 * calls.length;
    for (const [i, call] of calls.entries()) {
      const { id, kernel, dims, storages, scratchBytes } = call;
      const args = at + 8;
      this.#args.push(args);
      words.set([id, args], start / 4 + 2 * i);
      if (scratchBytes === 0) words[args / 4 - 1] = 0;
      else this.#place(args / 4 - 1, scratch[i] ?? 0);
      this.#floats.set(dims, args / 8);
      if (going !== null && kernel === "matmul") this.#rowFloats.push(args / 8);
      storages.forEach((storage, j) => {
        words[args / 4 + 2 * dims.length + j] = storage === null ? 0 : (descriptors.get(storage) ?? storage.descriptor);
      });
      at += blockBytes(call);
    }
  }

  /** The range begins at `base` now. */
  rebase(base: number): void {
    for (let i = 0; i < this.#places.length; i++) this.#words[this.#places[i]!] = base + this.#offsets[i]!;
  }

  /** Tells the calls of so many rows from `first` on; false where one would need more scratch than it has. */
  cut(kernels: ReplayKernels, first: number, rows: number): boolean {
    if (this.#captured === 0) return true;
    const words = this.#words;
    if (first !== this.#first) for (const { word, address, bytes } of this.#rowPlaces) words[word] = address + first * bytes;
    this.#first = first;
    if (rows === this.#rows) return this.#fits;
    this.#rows = rows;
    for (let i = 0; i < this.#rowWords.length; i++) words[this.#rowWords[i]!] = rows + this.#rowExtras[i]!;
    for (const at of this.#rowFloats) this.#floats[at] = rows;
    this.#fits = this.#calls.every(({ id, scratchBytes }, i) => kernels.scratchBytes(id, this.#args[i]!) <= scratchBytes);
    return this.#fits;
  }

  #place(word: number, offset: number): void {
    this.#places.push(word);
    this.#offsets.push(offset);
  }
}

/** A word for the scratch, then dims and storages. */
function blockBytes({ dims, storages }: RecordedCall): number {
  return 8 + 8 * dims.length + 8 * Math.ceil(storages.length / 2);
}

/** The list and the call blocks. */
function bytesOf(calls: readonly RecordedCall[]): number {
  return Math.ceil((8 * calls.length + calls.reduce((sum, call) => sum + blockBytes(call), 0)) / 64) * 64;
}

/** Those storages that go by row, all of the ones made inside among them; null where the calls cannot be cut to fewer rows. */
function rowsOf(calls: readonly RecordedCall[], inside: readonly CpuStorage[], { rows, storages }: ByRow): ReadonlySet<CpuStorage> | null {
  const going = new Set([...inside, ...storages.filter((storage) => storage instanceof CpuStorage)]);
  const goes = (storage: CpuStorage | null | undefined): boolean => storage !== null && storage !== undefined && going.has(storage);
  const fits = (storage: CpuStorage): boolean =>
    storage.rows === rows || (storage.rows === 1 && (storage.cols === rows || storage.cols === rows + 1));
  const cuts = ({ kernel, dims, storages: [first], outputs }: RecordedCall): boolean =>
    rowWise.has(kernel) &&
    (kernel === "kv_write" || outputs.every(goes)) &&
    (kernel !== "matmul" || (goes(first) && dims[0] === rows && dims[3] === 0));
  return rows > 1 && [...going].every(fits) && calls.every(cuts) ? going : null;
}

/**
 * Machine code in this process: written to memory of its own, which is then made executable and no longer writable, and kept until the
 * process ends. koffi calls it. Where that cannot be, the WASM kernels compute the same bits without it.
 */
import { createRequire } from "node:module";
import type koffiModule from "koffi";
import { attendBackwardCode } from "./attend-backward.ts";
import { attendCode } from "./attend.ts";
import { featureCode, vectorSets } from "./features.ts";
import { packCode, packColumnsCode } from "./pack.ts";
import { rowCode } from "./rows.ts";
import { productCode, type VectorSet } from "./products.ts";

/** koffi as `require` gives it, which knows no types. */
type Koffi = typeof koffiModule;

/** Where the code lies, and what another thread needs to call it. */
export interface NativeCode {
  readonly set: VectorSet;
  readonly functions: Readonly<Record<NativeName, bigint>>;
  /** Path of the module, and the library to load first: a thread that loaded none has no stack for calls in koffi 3.3. */
  readonly koffi: string;
  readonly library: string | null;
  /** Of every function: numbers, which koffi converts fastest. */
  readonly signature: string;
}

/** The functions that kernels/wasm/lib/native.ts imports. */
const names = ["products", "attend", "attendBackward", "packRows", "packColumns", "rows"] as const;
type NativeName = (typeof names)[number];
export type NativeImports = Readonly<Record<NativeName, (block: number) => void>>;

function forAll<T>(of: (name: NativeName) => T): Record<NativeName, T> {
  return Object.fromEntries(names.map((name) => [name, of(name)])) as Record<NativeName, T>;
}

export const noNative: NativeImports = forAll(() => () => {});

const SIGNATURE = "void (uintptr_t memory, uint32_t block)";
type NativeFunction = (memory: number, block: number) => void;

export function bindNative(code: NativeCode, memory: { readonly buffer: SharedArrayBuffer }): NativeImports {
  const koffi = createRequire(import.meta.url)(code.koffi) as Koffi;
  // shared memory grows in place
  const base = Number(koffi.address(new Uint8Array(memory.buffer)));
  return forAll((name) => {
    const call = koffi.decode(code.functions[name], koffi.proto(code.signature)) as NativeFunction;
    return (block) => call(base, block);
  });
}

/** The same in a worker's own words, as a function body of `require`, `native` and `memory`. */
export const bindSource = `
  const imports = Object.fromEntries(${JSON.stringify(names)}.map((name) => [name, () => {}]));
  if (native === null) return imports;
  const koffi = require(native.koffi);
  koffi.load(native.library);
  const base = Number(koffi.address(new Uint8Array(memory.buffer)));
  for (const [name, address] of Object.entries(native.functions)) {
    const call = koffi.decode(address, koffi.proto(native.signature));
    imports[name] = (block) => call(base, block);
  }
  return imports;
`;

/** The code to call, or why there is none. */
export type Native = { readonly code: NativeCode } | { readonly why: string };

/** What this process can run, the fastest set of vectors first. */
interface Choice {
  readonly koffi: Koffi;
  readonly path: string;
  readonly products: ReadonlyMap<VectorSet, bigint>;
  readonly made: Map<VectorSet, NativeCode>;
}

const windows = process.platform === "win32";
const abi = windows ? "win64" : "sysv";
let choice: Choice | { readonly why: string } | undefined;

/** What the device's option asks for. */
export function nativeFor(asked: "auto" | "off" | VectorSet = "auto"): Native {
  if (asked === "off") return { why: "device.native=off" };
  return nativeCode(asked === "auto" ? undefined : asked);
}

/** The vectors that products are computed with. */
export function vectorsOf(native: Native): VectorSet | "WASM" {
  return "code" in native ? native.code.set : "WASM";
}

/** Made once in a process. `wanted`: for these vectors rather than for the fastest. */
export function nativeCode(wanted?: VectorSet): Native {
  try {
    choice ??= choose();
    if ("why" in choice) return choice;
    const [fastest] = choice.products.keys();
    const set = wanted ?? fastest;
    const code = set === undefined ? undefined : codeFor(choice, set);
    return code === undefined ? { why: `this processor has no ${set ?? "AVX2"}` } : { code };
  } catch (error) {
    // no koffi for this platform, --no-addons, the permission model, a system that refuses executable memory
    choice = { why: error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error) };
    return choice;
  }
}

function choose(): Choice | { readonly why: string } {
  if (process.arch !== "x64") return { why: `none for ${process.arch}` };
  const require = createRequire(import.meta.url);
  const path = require.resolve("koffi");
  const koffi = require(path) as Koffi;
  const bind = (address: bigint): NativeFunction => koffi.decode(address, koffi.proto(SIGNATURE)) as NativeFunction;

  const words = new Uint32Array(4);
  bind(executable(koffi, featureCode(abi)))(Number(koffi.address(words)), 0);
  const sets = vectorSets(words);
  if (sets.length === 0) return { why: "this processor has no AVX2 with FMA" };
  const timed = sets.map((set) => {
    const products = executable(koffi, productCode(set, abi));
    return { set, products, time: timeOf(koffi, bind(products)) };
  });
  timed.sort((one, other) => one.time - other.time);
  return { koffi, path, products: new Map(timed.map(({ set, products }) => [set, products])), made: new Map() };
}

/** Undefined where the processor lacks the set. */
function codeFor({ koffi, path, products, made }: Choice, set: VectorSet): NativeCode | undefined {
  const own = products.get(set);
  if (own === undefined) return undefined;
  const code = made.get(set) ?? {
    set,
    functions: {
      products: own,
      attend: executable(koffi, attendCode(set, abi)),
      attendBackward: executable(koffi, attendBackwardCode(set, abi)),
      packRows: executable(koffi, packCode(abi)),
      packColumns: executable(koffi, packColumnsCode(abi)),
      rows: executable(koffi, rowCode(abi)),
    },
    koffi: path,
    library: windows ? "kernel32.dll" : null,
    signature: SIGNATURE,
  };
  made.set(set, code);
  return code;
}

/** The better of some runs of one block, in ms: 60 rows by 16 panels, 256 deep. */
function timeOf(koffi: Koffi, products: NativeFunction): number {
  const [rows, panels, depth] = [60, 16, 256];
  const a = 64,
    b = a + rows * depth,
    c = b + panels * 8 * depth;
  const memory = new Float32Array(c + rows * panels * 8);
  const base = Number(koffi.address(memory));
  const block = new Uint32Array(memory.buffer, 0, 10);
  let best = Infinity;
  for (let run = 0; run < 6; run++) {
    block.set([a * 4, b * 4, c * 4, panels * 32, depth, depth * 32, panels, rows / 5, 0, 0]);
    const start = performance.now();
    products(base, 0);
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

// mmap and mprotect; their numbers are the same on Linux and macOS, MAP_ANONYMOUS apart
const READ = 1,
  WRITE = 2,
  EXECUTE = 4,
  PRIVATE = 2;
// VirtualAlloc
const COMMIT_RESERVE = 0x3000,
  PAGE_READWRITE = 0x04,
  PAGE_EXECUTE_READ = 0x20;

/** Never both writable and executable. @throws Error if the system refuses. */
export function executable(koffi: Koffi, code: Uint8Array): bigint {
  const bytes = Math.ceil(code.length / 4096) * 4096;
  if (process.platform === "win32") {
    const kernel32 = koffi.load("kernel32.dll");
    const allocate = kernel32.func("void* VirtualAlloc(void* at, size_t size, uint32_t type, uint32_t protect)");
    const copy = kernel32.func("void RtlMoveMemory(void* to, void* from, size_t n)");
    const protect = kernel32.func("int VirtualProtect(void* at, size_t size, uint32_t protect, void* old)");
    const flush = kernel32.func("int FlushInstructionCache(void* process, void* at, size_t n)");
    const address = allocate(null, bytes, COMMIT_RESERVE, PAGE_READWRITE) as bigint | null;
    if (address === null) throw new Error("VirtualAlloc gave no memory");
    copy(address, code, code.length);
    if (protect(address, bytes, PAGE_EXECUTE_READ, new Uint32Array(1)) === 0) throw new Error("VirtualProtect refused executable memory");
    flush(-1n, address, bytes);
    return address;
  }
  const library = koffi.load(null);
  const map = library.func("void* mmap(void* at, size_t size, int protection, int flags, int file, int64_t offset)");
  const protect = library.func("int mprotect(void* at, size_t size, int protection)");
  const anonymous = process.platform === "darwin" ? 0x1000 : 0x20;
  const address = map(null, bytes, READ | WRITE, PRIVATE | anonymous, -1, 0) as bigint | null;
  if (address === null || BigInt.asIntN(64, address) === -1n) throw new Error("mmap gave no memory");
  library.func("void* memcpy(void* to, void* from, size_t n)")(address, code, code.length);
  if (protect(address, bytes, READ | EXECUTE) !== 0) {
    library.func("int munmap(void* at, size_t size)")(address, bytes);
    throw new Error("mprotect refused executable memory");
  }
  return address;
}

/** Which products keep a packed copy of their parameter between calls, so that decoding packs nothing. */
import type { KernelName } from "../kernels.ts";
import type { CpuMemory } from "./memory.ts";
import type { CpuStorage, Panels } from "./storage.ts";

/** Up to this many rows packing is worth remembering; above, it is small beside the product. */
const FEW_ROWS = 256;
/** Up to this many rows, machine code reads weights of 16 bits faster as they are than as panels of floats, which take twice the bytes. */
const FEWEST_ROWS = 8;
/** Columns of a panel: NR of kernels/wasm/lib/pack.ts. */
const NR = 8;
const PANELS_WORD = 7;

/** The packed operand of a product: which panels it is read from, and whether they are worth making where there are none. */
export interface PackedOperand {
  readonly parameter: CpuStorage;
  /** 0: as stored [N, K], 1: as stored [K, N]. */
  readonly orientation: 0 | 1;
  /** Bytes of panels to be made; 0 where packing is small beside the product. */
  readonly bytes: number;
  readonly rows: number;
}

/** The operand that a call would pack; undefined if it packs none. */
export function packedOperand(
  kernel: KernelName,
  dims: Readonly<Record<string, number>>,
  inputs: readonly (CpuStorage | null)[],
): PackedOperand | undefined {
  const matmul = kernel === "matmul";
  if (!matmul && kernel !== "log_prob" && kernel !== "log_prob_backward") return undefined;
  const parameter = inputs[1];
  if (!parameter) return undefined;
  const transposed = !matmul || dims["transB"] !== 0;
  const rows = matmul ? (dims["M"] ?? 0) : (inputs[0]?.rows ?? 0);
  const [N, K] = transposed ? [parameter.rows, parameter.cols] : [parameter.cols, parameter.rows];
  const kept = parameter.usage === "parameter" && rows <= FEW_ROWS;
  return { parameter, orientation: transposed ? 0 : 1, bytes: kept ? Math.ceil(N / NR) * NR * K * 4 : 0, rows };
}

/**
 * Tells the kernel, through the descriptor of its packed operand, where that operand's panels are or shall be kept. Returns them, to be
 * marked as ready when the kernel has run; undefined if nothing is kept.
 */
export function preparePanels(memory: CpuMemory, { parameter, orientation, bytes, rows }: PackedOperand): Panels | undefined {
  const word = parameter.descriptor / 4 + PANELS_WORD;
  const asTheyAre = memory.readsHalves && rows <= FEWEST_ROWS && parameter.dtype !== "f32" && orientation === 0;
  const worthIt = bytes > 0 && !asTheyAre;
  const panels = parameter.panels[orientation] ?? (worthIt ? memory.panelsFor(parameter, orientation, bytes) : undefined);
  memory.words[word] = panels === undefined ? 0 : panels.address + (panels.ready ? 1 : 0);
  return panels;
}

/** Which products keep a packed copy of their parameter between calls, so that decoding packs nothing. */
import type { KernelName } from "../kernels.ts";
import type { CpuMemory } from "./memory.ts";
import type { CpuStorage } from "./storage.ts";

/** Up to this many rows packing is worth remembering; above, it is small beside the product. */
const FEW_ROWS = 256;
/** Columns of a panel: NR of kernels/wasm/lib/pack.ts. */
const NR = 8;
const PANELS_WORD = 7;

/**
 * Tells the kernel, through the descriptor of its packed operand, where that operand's panels are or shall be kept.
 * Returns what to call when the kernel has run; undefined if nothing is kept.
 */
export function preparePanels(
  memory: CpuMemory,
  kernel: KernelName,
  dims: Readonly<Record<string, number>>,
  inputs: readonly (CpuStorage | null)[],
): (() => void) | undefined {
  const matmul = kernel === "matmul";
  if (!matmul && kernel !== "log_prob" && kernel !== "log_prob_backward") return undefined;
  const parameter = inputs[1];
  if (!parameter) return undefined;
  const transposed = !matmul || dims["transB"] !== 0;
  const orientation = transposed ? 0 : 1;
  const rows = matmul ? (dims["M"] ?? 0) : (inputs[0]?.rows ?? 0);
  const word = parameter.descriptor / 4 + PANELS_WORD;
  memory.pinned = undefined;
  let panels = parameter.panels[orientation];
  if (panels === undefined && parameter.usage === "parameter" && rows <= FEW_ROWS) {
    const [N, K] = transposed ? [parameter.rows, parameter.cols] : [parameter.cols, parameter.rows];
    panels = memory.panelsFor(parameter, orientation, Math.ceil(N / NR) * NR * K * 4);
  }
  if (panels === undefined) {
    memory.words[word] = 0;
    return undefined;
  }
  memory.words[word] = panels.address + (panels.ready ? 1 : 0);
  memory.pinned = parameter;
  const kept = panels;
  return () => {
    kept.ready = true;
    memory.pinned = undefined;
  };
}

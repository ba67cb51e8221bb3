/**
 * The shapes of the table in `kernels.ts` as data: a kernel given others would read or write past the ends of its storages, so every
 * device checks them first. A word stands for one number all over a call; `_` for any; dims of the call may be named.
 */
import { DeviceError } from "../util/errors.ts";
import type { Storage, Operands } from "./device.ts";
import type { KernelName } from "./kernels.ts";

type Numbers = Readonly<Record<string, number>>;

interface ShapeRow {
  /** "rows cols" of each input, then of each output. */
  readonly shapes: readonly string[];
  /** What else must hold between the numbers found, in words; null where it does. */
  readonly check?: (n: Numbers) => string | null;
}

const rule =
  (holds: (n: Numbers) => boolean, words: string) =>
  (n: Numbers): string | null =>
    holds(n) ? null : words;
const heads = rule(
  (n) => n["QC"]! % n["heads"]! === 0 && n["KC"]! * n["heads"]! === n["QC"]! * n["kvHeads"]! && n["heads"]! % n["kvHeads"]! === 0,
  "q of heads * D columns, k and v of kvHeads * D",
);
const groups = rule((n) => n["W"]! * n["groups"]! === n["GC"]!, "a weight of cols / groups elements");
const repeat = (shape: string, times: number): string[] => new Array<string>(times).fill(shape);

/** `matmul` is apart: its shapes turn with its transpositions. */
const table: Readonly<Record<Exclude<KernelName, "matmul">, ShapeRow>> = {
  fill: { shapes: ["_ _"] },
  copy: {
    shapes: ["X C", "Y C"],
    check: rule((n) => n["fromRow"]! + n["rows"]! <= n["X"]! && n["toRow"]! + n["rows"]! <= n["Y"]!, "rows that both have"),
  },
  round: { shapes: repeat("N C", 2) },
  add: { shapes: repeat("N C", 3) },
  accumulate: { shapes: repeat("N C", 2) },
  column_sum: { shapes: ["N C", "1 C"] },
  embedding: { shapes: ["1 N", "V C", "N C"] },
  embedding_backward: { shapes: ["1 N", "N C", "V C"] },
  rms_norm: { shapes: ["N GC", "1 W", "N GC", "N groups"], check: groups },
  rms_norm_backward: { shapes: ["N GC", "1 W", "N groups", "N GC", "N GC", "1 W"], check: groups },
  rope: { shapes: ["N C", "1 N", "_ D", "N C"], check: rule((n) => n["D"]! * n["heads"]! === n["C"]!, "a table of cols / heads columns") },
  attention: { shapes: ["N QC", "N KC", "N KC", "1 _", "N QC", "N heads"], check: heads },
  attention_backward: {
    shapes: ["N QC", "N KC", "N KC", "1 _", "N QC", "N heads", "N QC", "N QC", "N KC", "N KC"],
    check: heads,
  },
  kv_write: {
    shapes: ["N KC", "N KC", "1 N", "1 O", "B _", "X W", "X W"],
    check: rule(
      (n) => n["W"] === n["KC"]! * 64 && n["O"] === n["B"]! + 1,
      "caches of kvHeads * D * 64 columns, and one offset more than table rows",
    ),
  },
  kv_copy: { shapes: ["_ 2", "X W", "X W"] },
  attention_paged: {
    shapes: ["N QC", "1 N", "1 O", "B _", "X W", "X W", "N QC"],
    check: rule(
      (n) => n["W"]! * n["heads"]! === n["QC"]! * n["kvHeads"]! * 64 && n["O"] === n["B"]! + 1,
      "caches of kvHeads * D * 64 columns, and one offset more than table rows",
    ),
  },
  swiglu: { shapes: repeat("N F", 3) },
  swiglu_backward: { shapes: repeat("N F", 5) },
  gather_rows: { shapes: ["_ C", "1 N", "N C"] },
  scatter_rows: { shapes: ["N C", "1 N", "_ C"] },
  log_prob: { shapes: ["N C", "V C", "1 N", "1 N", "1 N", "1 N"] },
  log_prob_backward: { shapes: ["N C", "V C", "1 N", "1 N", "1 N", "1 N", "1 N", "N C", "V C"] },
  sequence_ratio: { shapes: ["1 N", "1 N", "1 _", "1 N"] },
  policy_loss: { shapes: [...repeat("1 N", 8), "1 9"] },
  value_loss: { shapes: ["N 1", ...repeat("1 N", 3), "N 1", "1 3"] },
  weighted_nll: { shapes: [...repeat("1 N", 3), "1 2"] },
  sum_squares: { shapes: ["_ _", "1 S"], check: rule((n) => n["slot"]! < n["S"]!, "a slot that acc has") },
  clip_scale: { shapes: ["1 S", "1 2"], check: rule((n) => n["count"]! <= n["S"]!, "as many sums as acc has") },
  adamw: { shapes: ["N C", "1 2", ...repeat("N C", 3)] },
  adamw_bf16: { shapes: ["N C", "1 2", ...repeat("N C", 3)] },
  adamw_8bit: {
    shapes: ["N C", "1 2", "3 256", "N C", "N W", "N W", "N S"],
    check: rule(
      (n) => n["W"] === Math.ceil(n["C"]! / 4) && n["S"] === 2 * Math.ceil(n["C"]! / 256),
      "codes of ceil(C / 4) words, and two scales for each 256 columns",
    ),
  },
  sample: { shapes: ["R _", "R 4", "R 5", "1 R", "1 R", "1 R"] },
  advance: {
    shapes: ["1 R", "1 R", "S _", "1 S", ...repeat("1 R", 5), "T R", "T R"],
    check: rule((n) => n["step"]! < n["T"]!, "a step that outIds has a row for"),
  },
};

/** The table with its words taken apart, once. */
const parsed = new Map(
  Object.entries(table).map(([kernel, { shapes, check }]) => [
    kernel,
    {
      check,
      shapes: shapes.map((shape) => {
        const [rows = "_", cols = "_"] = shape.split(" ");
        return { rows, cols };
      }),
    },
  ]),
);
const literal = /^\d+$/;

/** @throws DeviceError if the storages of a call do not fit each other. Absent ones are passed over. */
export function checkShapes(kernel: KernelName, dims: Numbers, inputs: Operands, outputs: Operands): void {
  if (kernel === "matmul") {
    checkMatmul(dims, inputs, outputs);
    return;
  }
  const row = parsed.get(kernel)!;
  const found: Record<string, number> = { ...dims };
  const fits = (word: string, got: number): boolean => word === "_" || got === (literal.test(word) ? Number(word) : (found[word] ??= got));
  row.shapes.forEach(({ rows, cols }, i) => {
    const storage = i < inputs.length ? inputs[i] : outputs[i - inputs.length];
    if (storage === null || storage === undefined) return;
    if (fits(rows, storage.rows) && fits(cols, storage.cols)) return;
    const said = (word: string): string => (word in found ? String(found[word]) : word);
    throw new DeviceError({
      where: `kernel ${kernel}`,
      what: `${storage.label} does not fit the other storages`,
      expected: `[${said(rows)}, ${said(cols)}]`,
      got: `[${storage.rows}, ${storage.cols}]`,
    });
  });
  const wrong = row.check?.(found) ?? null;
  if (wrong !== null)
    throw new DeviceError({
      where: `kernel ${kernel}`,
      what: "storages and dims do not fit",
      expected: wrong,
      got: Object.entries(found)
        .map(([name, value]) => `${name} ${value}`)
        .join(", "),
    });
}

function checkMatmul(dims: Numbers, inputs: Operands, outputs: Operands): void {
  const { M = 0, N = 0, K = 0, transA, transB } = dims as { M?: number; N?: number; K?: number; transA?: number; transB?: number };
  const expect = (name: string, storage: Storage | null | undefined, rows: number, cols: number): void => {
    if (storage === null || storage === undefined || (storage.rows === rows && storage.cols === cols)) return;
    throw new DeviceError({
      where: "kernel matmul",
      what: `${name} (${storage.label}) does not fit M=${M} N=${N} K=${K} transA=${transA} transB=${transB}`,
      expected: `[${rows}, ${cols}]`,
      got: `[${storage.rows}, ${storage.cols}]`,
    });
  };
  expect("a", inputs[0], transA === 0 ? M : K, transA === 0 ? K : M);
  expect("b", inputs[1], transB === 0 ? K : N, transB === 0 ? N : K);
  expect("bias", inputs[2], 1, N);
  expect("c", outputs[0], M, N);
}

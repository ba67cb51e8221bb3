/** Rotary position embedding, and its inverse. */
import { rowRuns, type KernelCall, type KernelContext, type KernelHost, type Present } from "../kernel.ts";
import { groupsFor } from "./elementwise.ts";

export const rope: KernelHost = (context, { dims, inputs: [x, positions, table], outputs: [y] }) => {
  const heads = dims["heads"]!;
  const D = x!.cols / heads;
  // vectors of four where half a head is a whole number of them
  const lanes = D % 8 === 0 ? 4 : 1;
  const half = D / 2 / lanes;
  const stride = x!.stride / lanes;
  const cosines = context.whole(table!, "read");
  for (const { row, rows, parts } of rowRuns([x!, y!])) {
    const [from, to] = parts;
    const items = rows * heads * half;
    context.dispatch({
      kernel: "rope",
      aliases: { Lane: lanes === 4 ? "vec4<f32>" : "f32" },
      buffers: [from!.buffer, positions!.buffers[0]!, cosines, to!.buffer],
      uints: [items, half, heads, row, from!.row * stride, to!.row * stride, stride, table!.stride / lanes, table!.rows],
      floats: [dims["inverse"] === 1 ? -1 : 1],
      grid: groupsFor(items),
    });
  }
};

/** Two ropes by the same positions in one. */
export function ropeTwo(context: KernelContext, calls: readonly KernelCall[]): void {
  const [first, second] = calls as readonly [KernelCall, KernelCall];
  const [x, positions, table] = first.inputs as Present;
  const [u] = second.inputs as Present;
  const [y] = first.outputs as Present;
  const [v] = second.outputs as Present;
  const [heads, headsU] = [first.dims["heads"]!, second.dims["heads"]!];
  const D = x.cols / heads;
  const lanes = D % 8 === 0 ? 4 : 1;
  const half = D / 2 / lanes;
  const [stride, strideU] = [x.stride / lanes, u.stride / lanes];
  const cosines = context.whole(table, "read");
  for (const { row, rows, parts } of rowRuns([x, u, y, v])) {
    const [px, pu, py, pv] = parts;
    const [items, itemsU] = [rows * heads * half, rows * headsU * half];
    context.dispatch({
      kernel: "rope_two",
      aliases: { Lane: lanes === 4 ? "vec4<f32>" : "f32" },
      buffers: [px!.buffer, pu!.buffer, positions.buffers[0]!, cosines, py!.buffer, pv!.buffer],
      uints: [
        ...[items, itemsU, half, heads, headsU, row],
        ...[px!.row * stride, py!.row * stride, stride, pu!.row * strideU, pv!.row * strideU, strideU],
        ...[table.stride / lanes, table.rows],
      ],
      floats: [first.dims["inverse"] === 1 ? -1 : 1],
      grid: groupsFor(items + itemsU),
    });
  }
}

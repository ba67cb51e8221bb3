/** The stop automata of all requests under way for one model, stacked into one table on the device, so that one batch may mix them. */
import type { Device } from "../device/device.ts";
import { keep } from "../tensor/scope.ts";
import { empty, fromHost, type Tensor } from "../tensor/tensor.ts";
import type { StopTable } from "./types.ts";

/** Tables nobody uses that stay on the device, in case they come again. */
const keptTables = 8;

interface Entry {
  first: number;
  users: number;
}

export class StackedStops {
  /** Changes whenever states on the device move: rows must be placed again. */
  version = 0;
  readonly #device: Device;
  readonly #entries = new Map<StopTable, Entry>();
  #tables: { transitions: Tensor; accepts: Tensor } | null = null;

  constructor(device: Device) {
    this.#device = device;
  }

  /** Must be followed by one `release` of the same table. */
  use(table: StopTable): void {
    const entry = this.#entries.get(table);
    if (entry !== undefined) {
      entry.users++;
      return;
    }
    this.#forgetUnused();
    this.#entries.set(table, { first: 0, users: 1 });
    this.dispose();
  }

  release(table: StopTable): void {
    const entry = this.#entries.get(table);
    if (entry !== undefined) entry.users--;
  }

  /** The state that `state` of `table` is on the device. */
  place(table: StopTable, state: number): number {
    this.onDevice();
    return this.#entries.get(table)!.first + state;
  }

  /** transitions [S, V] and accepts [S] of all tables. */
  onDevice(): { readonly transitions: Tensor; readonly accepts: Tensor } {
    if (this.#tables !== null) return this.#tables;
    let states = 0;
    let vocabulary = 0;
    for (const [table, entry] of this.#entries) {
      entry.first = states;
      states += table.states;
      vocabulary = table.vocabulary;
    }
    const accepts = new Uint32Array(states);
    const transitions = keep(empty(this.#device, [states, vocabulary], { dtype: "u32", label: "stop transitions" }));
    for (const [table, { first }] of this.#entries) {
      accepts.set(table.accepts, first);
      transitions.write(first === 0 ? table.transitions : table.transitions.map((state) => state + first), first);
    }
    this.#tables = { transitions, accepts: keep(fromHost(this.#device, accepts, [states], { label: "stop accepts" })) };
    return this.#tables;
  }

  dispose(): void {
    this.version++;
    this.#tables?.transitions.dispose();
    this.#tables?.accepts.dispose();
    this.#tables = null;
  }

  #forgetUnused(): void {
    if (this.#entries.size < keptTables) return;
    for (const [table, { users }] of this.#entries) if (users === 0) this.#entries.delete(table);
  }
}

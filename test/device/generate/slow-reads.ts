/** A device behaving as a GPU does: reads are snapshots that come late, and work can be captured and run again. Bits are those of the device inside. */
import type { Device, HostArray, MemoryReport, Replay, Storage } from "../../../src/device/device.ts";

type Call = Parameters<Device["run"]>;

export class SlowReads implements Device {
  readonly kind;
  readonly description;
  readonly precision;
  readonly readInterval: number;
  /** Turns of the event loop that a read takes. */
  readonly turns: number;
  /** Reads asked for and not answered: now, and at most since the start. */
  waiting = 0;
  mostWaiting = 0;
  captures = 0;
  replays = 0;
  /** Captures not yet disposed of. */
  held = 0;
  /** The next so many reads fail. */
  failures = 0;
  private readonly inner: Device;
  private tape: { readonly calls: Call[]; readonly released: Storage[] } | null = null;

  constructor(inner: Device, readInterval: number, turns = 3) {
    this.inner = inner;
    this.kind = inner.kind;
    this.description = inner.description;
    this.precision = inner.precision;
    this.readInterval = readInterval;
    this.turns = turns;
  }

  allocate(...args: Parameters<Device["allocate"]>): Storage {
    return this.inner.allocate(...args);
  }

  release(storage: Storage): void {
    if (this.tape === null) this.inner.release(storage);
    else this.tape.released.push(storage);
  }

  write(...args: Parameters<Device["write"]>): void {
    if (this.tape !== null) throw new Error("write in a capture");
    this.inner.write(...args);
  }

  async read(storage: Storage, firstRow?: number, rows?: number): Promise<HostArray> {
    const snapshot = this.inner.read(storage, firstRow, rows);
    this.mostWaiting = Math.max(this.mostWaiting, ++this.waiting);
    try {
      for (let turn = 0; turn < this.turns; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (this.failures > 0) {
        this.failures--;
        throw new Error("lost while reading");
      }
      return await snapshot;
    } finally {
      this.waiting--;
    }
  }

  run(...call: Call): void {
    this.tape?.calls.push(call);
    this.inner.run(...call);
  }

  capture(fn: () => void): Replay {
    const tape = { calls: [] as Call[], released: [] as Storage[] };
    const free = (): void => {
      for (const storage of tape.released) this.inner.release(storage);
    };
    this.tape = tape;
    try {
      fn();
    } catch (error) {
      free();
      throw error;
    } finally {
      this.tape = null;
    }
    this.captures++;
    this.held++;
    return {
      run: () => {
        this.replays++;
        for (const call of tape.calls) this.inner.run(...call);
        return true;
      },
      dispose: () => {
        this.held--;
        free();
      },
    };
  }

  synchronize(): Promise<void> {
    return this.inner.synchronize();
  }

  memory(): MemoryReport {
    return this.inner.memory();
  }

  resetPeak(): void {
    this.inner.resetPeak();
  }

  /** The device inside is its maker's. */
  destroy(): Promise<void> {
    return Promise.resolve();
  }
}

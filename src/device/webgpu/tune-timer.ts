/** Times products as a tuning cuts them, once for each way of cutting, and compares their bits with the rule's. */
import { ZeroSearchError } from "../../util/errors.ts";
import { directRows } from "./kernels/matmul-tiles.ts";
import { bitsOf } from "./self-test-values.ts";
import { fillRough, planOf, storagesOf, type TimedProduct } from "./tune-products.ts";
import { defaultTuning, type Tuning } from "./tuning.ts";
import type { WebGpuDevice } from "./webgpu-device.ts";

/** Milliseconds of one measurement: many times what waiting for a device takes. */
const worth = 15;
/** The best of so many counts. */
const measurements = 3;
const mostProducts = 512;

export interface Timed {
  readonly seconds: number;
  /** What is wrong with it; null where it has the bits of the rule's. */
  readonly fault: string | null;
}

/** The product whose storages are on the device. */
interface Placed {
  readonly product: TimedProduct;
  readonly storages: ReturnType<typeof storagesOf>;
  /** By the rule. */
  readonly bits: Uint32Array | Uint16Array;
  /** How many make a measurement. */
  readonly count: number;
}

export class TuneTimer {
  /** Variants that differ from the rule's in bits, or fail. */
  readonly faults: string[] = [];
  /** What there was no time for. */
  left = 0;
  readonly #open: () => Promise<WebGpuDevice>;
  readonly #signal: AbortSignal | undefined;
  readonly #times = new Map<TimedProduct, Map<string, Timed>>();
  #device: WebGpuDevice | null = null;
  #placed: Placed | null = null;

  constructor(open: () => Promise<WebGpuDevice>, signal?: AbortSignal) {
    this.#open = open;
    this.#signal = signal;
  }

  async device(): Promise<WebGpuDevice> {
    this.#device ??= await this.#open();
    return this.#device;
  }

  /** Of a way that was measured. */
  known(product: TimedProduct, tuning: Tuning): Timed | undefined {
    return this.#times.get(product)?.get(this.#plan(product, tuning).key);
  }

  /** Of all ways that were measured. */
  all(product: TimedProduct): Timed[] {
    return [...(this.#times.get(product)?.values() ?? [])];
  }

  /** Null where it is past `deadline`, by `performance.now()`. A way that was measured is not measured again. */
  async time(product: TimedProduct, tuning: Tuning, deadline: number): Promise<Timed | null> {
    await this.device();
    const known = this.known(product, tuning);
    if (known !== undefined) return known;
    this.#signal?.throwIfAborted();
    if (performance.now() > deadline) {
      this.left += 1;
      return null;
    }
    const { key, text } = this.#plan(product, tuning);
    const rule = this.#plan(product, defaultTuning).key;
    // the rule comes first: the others are compared with it
    if (this.#placed?.product !== product) await this.#place(product, rule);
    if (key === rule) return this.known(product, tuning)!;
    const timed = await this.#measure(tuning).catch((error: unknown) => this.#failed(error));
    if (timed.fault !== null) this.faults.push(`${product.name}, ${text}: ${timed.fault}`);
    this.#note(product, key, timed);
    return timed;
  }

  /** Times both where they differ once more, in turns; the best counts. Whether there was time. */
  async timeAgain(products: readonly TimedProduct[], one: Tuning, other: Tuning, deadline: number): Promise<boolean> {
    for (const product of products) {
      const plans = [one, other].map((tuning) => ({ tuning, key: this.#plan(product, tuning).key }));
      if (plans[0]!.key === plans[1]!.key) continue;
      this.#signal?.throwIfAborted();
      if (performance.now() > deadline) return false;
      await this.#place(product, this.#plan(product, defaultTuning).key);
      for (const { tuning, key } of plans) {
        const { seconds, fault } = this.known(product, tuning)!;
        const again = await this.#measure(tuning).catch((error: unknown) => this.#failed(error));
        this.#note(product, key, again.fault === null ? { seconds: Math.min(seconds, again.seconds), fault } : again);
        if (again.fault !== null) this.faults.push(`${product.name}: ${again.fault}`);
      }
      this.release();
    }
    return true;
  }

  /** Gives the memory of the product that was timed last back. */
  release(): void {
    if (this.#placed === null || this.#device === null) return;
    const { a, b, c } = this.#placed.storages;
    for (const storage of [a, b, c]) this.#device.release(storage);
    this.#device.trim();
    this.#placed = null;
  }

  async close(): Promise<void> {
    await this.#device?.destroy().catch(() => undefined);
    this.#device = null;
  }

  #plan(product: TimedProduct, tuning: Tuning) {
    const { capabilities, precision } = this.#device!;
    return planOf({ ...capabilities, tuning }, precision, product);
  }

  #note(product: TimedProduct, key: string, timed: Timed): void {
    const times = this.#times.get(product) ?? new Map<string, Timed>();
    this.#times.set(product, times.set(key, timed));
  }

  /** Puts a product on the device and times it by the rule. */
  async #place(product: TimedProduct, key: string): Promise<void> {
    this.release();
    const device = await this.device();
    const storages = storagesOf(device, product);
    fillRough(device, storages.a);
    fillRough(device, storages.b);
    device.retune(defaultTuning);
    storages.run();
    const bits = bitsOf(await device.read(storages.c));
    this.#placed = { product, storages, bits, count: 1 };
    for (;;) {
      const { count } = this.#placed;
      const milliseconds = 1000 * count * (await this.#seconds(this.#placed, 1));
      if (milliseconds >= worth || count >= mostProducts) break;
      const more = Math.ceil(count * Math.min(8, Math.max(1.5, worth / milliseconds)));
      this.#placed = { ...this.#placed, count: Math.min(mostProducts, more) };
    }
    const known = this.#times.get(product)?.get(key);
    if (known === undefined) this.#note(product, key, await this.#measure(defaultTuning));
  }

  async #measure(tuning: Tuning): Promise<Timed> {
    const device = await this.device();
    const { storages, bits } = this.#placed!;
    device.retune(tuning);
    // what a variant leaves unwritten must not be what another one wrote
    device.write(storages.c, new Float32Array(bits.length).fill(NaN));
    storages.run();
    const got = bitsOf(await device.read(storages.c));
    const wrong = got.findIndex((word, i) => word !== bits[i]);
    const { cols } = storages.c;
    if (wrong >= 0)
      return { seconds: Infinity, fault: `row ${Math.floor(wrong / cols)}, column ${wrong % cols} differs from the rule's in its bits` };
    return { seconds: await this.#seconds(this.#placed!, measurements), fault: null };
  }

  /** Of one product, the best of so many measurements. Few rows are decode's, which devices replay; others are recorded each time. */
  async #seconds({ product, storages, count }: Placed, times: number): Promise<number> {
    const device = await this.device();
    const all = (): void => {
      for (let i = 0; i < count; i++) storages.run();
    };
    const replay = product.M <= directRows ? device.capture(all) : { run: all, dispose: () => undefined };
    let best = Infinity;
    for (let i = 0; i < times; i++) {
      await device.synchronize();
      const start = performance.now();
      replay.run();
      await device.synchronize();
      best = Math.min(best, (performance.now() - start) / 1000 / count);
    }
    replay.dispose();
    return best;
  }

  /** A device on which something failed is not used any more. */
  async #failed(error: unknown): Promise<Timed> {
    if (!(error instanceof ZeroSearchError)) throw error;
    const { product } = this.#placed!;
    await this.close();
    this.#placed = null;
    await this.device();
    await this.#place(product, this.#plan(product, defaultTuning).key);
    return { seconds: Infinity, fault: error.message.split("\n")[0] ?? "" };
  }
}

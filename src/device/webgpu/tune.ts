/**
 * Measures which tiles are fast on a device, and that all of them give the same bits: first for how many workgroups products are cut, then the
 * tile for each class of rows. What is not clearly faster than the rule's choice is not taken.
 */
import { matrixFits, tileNames } from "./kernels/matmul-tiles.ts";
import { clearWinner } from "./tune-choice.ts";
import { planOf, timedProducts, type TimedProduct } from "./tune-products.ts";
import { TuneTimer } from "./tune-timer.ts";
import type { TuneOptions, TuningReport } from "./tune-report.ts";
import { defaultTuning, rowClass, type ProductKind, type Tuning } from "./tuning.ts";
import type { WebGpuDevice } from "./webgpu-device.ts";

/** From a GPU inside of a processor to the largest. */
const groupCounts = [8, 16, 32, 64, 132, 264].filter((groups) => groups !== defaultTuning.groups);
/** How many times as many operations as in all products their measurements are, about. */
const repeats = 50;
/** Of the time, for how many workgroups; the rest is for tiles. */
const groupsShare = 0.5;

/** @param open - opens the device, without a tuning; again where a variant ends it */
export async function tuneDevice(open: () => Promise<WebGpuDevice>, options: TuneOptions): Promise<TuningReport> {
  const timer = new TuneTimer(open, options.signal);
  try {
    return await measureAll(timer, options);
  } finally {
    await timer.close();
  }
}

async function measureAll(timer: TuneTimer, { seconds, onProgress = () => undefined }: TuneOptions): Promise<TuningReport> {
  const device = await timer.device();
  const start = performance.now();
  const until = (share: number): number => start + 1000 * share * seconds;
  const { capabilities, precision, place, adapter } = device;
  const kind: ProductKind = precision === "f16" && matrixFits(capabilities) ? "matrix" : "plain";
  const products = timedProducts(await shrinkFor(timer, seconds));
  const classes = [...new Set(products.map(({ M }) => rowClass(kind, M)))].map((name) => {
    const some = products.filter(({ M }) => rowClass(kind, M) === name);
    return { name, some, tiles: tileNames(capabilities, kind, some[0]!.M) };
  });
  const total = classes.reduce((sum, { some, tiles }) => sum + some.length * tiles.length, products.length * (1 + groupCounts.length));
  let done = 0;

  /** Measures all variants on each of some products. */
  const measure = async (some: readonly TimedProduct[], variants: readonly Tuning[], deadline: number): Promise<void> => {
    for (const product of some) {
      for (const tuning of variants) {
        onProgress(done, total, product.name);
        await timer.time(product, tuning, deadline);
        onProgress(++done, total, product.name);
      }
      timer.release();
    }
  };

  /** The variant that is clearly faster than `now`, and again so when both are measured once more; else `now`. */
  const undecided: string[] = [];
  const better = async (
    what: string,
    now: Tuning,
    some: readonly TimedProduct[],
    variants: readonly Tuning[],
    deadline: number,
  ): Promise<Tuning> => {
    const measured = some.filter((product) => [now, ...variants].every((tuning) => timer.known(product, tuning) !== undefined));
    const timesOf = (tuning: Tuning): number[] => measured.map((product) => timer.known(product, tuning)!.seconds);
    // too little to go by
    if (2 * measured.length < some.length) {
      undecided.push(what);
      return now;
    }
    let rest = variants.map((tuning) => ({ tuning, times: timesOf(tuning) }));
    for (;;) {
      const winner = clearWinner(timesOf(now), rest);
      if (winner === null) return now;
      const { tuning } = winner;
      if (!(await timer.timeAgain(measured, now, tuning, deadline))) return now;
      if (clearWinner(timesOf(now), [{ tuning, times: timesOf(tuning) }]) !== null) return tuning;
      rest = rest.filter((one) => one !== winner);
    }
  };

  const counts = groupCounts.map((groups) => ({ ...defaultTuning, groups }));
  await measure(products, [defaultTuning, ...counts], until(groupsShare));
  let tuning = await better("groups", defaultTuning, products, counts, until(groupsShare + 0.1));
  for (const { name, some, tiles } of classes) {
    const before = tuning;
    const variants = tiles.map((tile): Tuning => ({ ...before, [kind]: { ...before[kind], [name]: tile } }));
    await measure(some, variants, until(1));
    tuning = await better(name, before, some, variants, until(1.1));
  }
  return {
    tuning,
    place,
    software: adapter.software,
    device: device.description,
    products: products.flatMap((product) => {
      const [rule, tuned] = [timer.known(product, defaultTuning), timer.known(product, tuning)];
      if (rule === undefined || tuned === undefined) return [];
      const all = timer.all(product);
      const words = { rule: textOf(device, product, defaultTuning), tuned: textOf(device, product, tuning) };
      const times = { ruleSeconds: rule.seconds, tunedSeconds: tuned.seconds };
      const { M, N, K, name } = product;
      return [{ M, N, K, name, ...words, ...times, variants: all.length, same: all.every(({ fault }) => fault === null) }];
    }),
    faults: timer.faults,
    undecided,
    decided: undecided.length < 1 + classes.length,
    left: timer.left,
  };
}

function textOf({ capabilities, precision }: WebGpuDevice, product: TimedProduct, tuning: Tuning): string {
  return planOf({ ...capabilities, tuning }, precision, product).text;
}

/** By how much products are made smaller so that all measurements take half of the time: the rest is for compiling. */
async function shrinkFor(timer: TuneTimer, seconds: number): Promise<number> {
  const probe: TimedProduct = { M: 64, N: 512, K: 512, transA: 0, transB: 1, name: "a first product" };
  const operations = ({ M, N, K }: TimedProduct): number => 2 * M * N * K;
  const timed = await timer.time(probe, defaultTuning, Infinity);
  timer.release();
  const each = timed!.seconds / operations(probe);
  const fits = (shrink: number): boolean =>
    timedProducts(shrink).reduce((sum, product) => sum + operations(product), 0) * each * repeats <= seconds / 2;
  return [1, 2, 4, 8].find(fits) ?? 16;
}

/** What a bench is, and how it is measured: repetitions to fill a round, rounds of ours and the peers' in turn, medians. */
import type { Work } from "./shapes.js";

/** What `count` repetitions took. */
export interface Sample {
  readonly seconds: number;
  /** Part of it in which the host was busy asking for work. */
  readonly hostSeconds?: number;
}

/** What a WebGPU device counts. */
export interface Counts {
  readonly dispatches: number;
  readonly submissions: number;
  readonly bindGroupsMade: number;
}

/** A bench whose rate tells how long a training run takes. */
export interface RateOf {
  readonly kind: "train" | "prefill" | "decode";
  /** Of the model. */
  readonly layers: number;
  /** Decode steps of one repetition, and their rows. */
  readonly steps?: number;
  readonly rows?: number;
}

/** One size of something that is measured at several. */
export interface Point {
  /** What is varied, in words: "tokens in the cache". A panel of the figure. */
  readonly axis: string;
  /** Which of the axis's lines: "decode, 8 rows". */
  readonly line: string;
  readonly size: number;
  /** Of what the cost is told: "token". */
  readonly of: string;
  /** How many of these one repetition makes. */
  readonly count: number;
  /** Cost that is linear goes by this power of the size. */
  readonly linear: 1 | -1;
  /** What else a reader should know of this size. */
  readonly note?: string;
}

/** Something ready to be run again and again. */
export interface Prepared {
  /** Runs `count` repetitions and waits for the last. */
  run(count: number): Promise<Sample>;
  close(): Promise<void> | void;
  /** The most repetitions of one run. */
  readonly most?: number;
  /** So far, where they are counted. */
  readonly counts?: () => Counts;
  /** The most bytes that were in use on the device. */
  readonly peakBytes?: () => number;
  /** The device's one line. */
  readonly description?: string;
  /** Work of one repetition, where it depends on what was found. */
  readonly work?: Work;
}

export interface Peer {
  readonly name: string;
  /** Null where it is missing; the runner says so. */
  open(): Promise<Prepared | null>;
}

export interface Bench {
  readonly name: string;
  readonly unit: string;
  /** What one repetition does, in units of `unit` times seconds. */
  readonly amount: number;
  readonly work?: Work;
  /** In which type its products are taken, for the peak. */
  readonly precision?: "f32" | "f16";
  /** What one round should take, where it differs from the run's. */
  readonly seconds?: number;
  /** Bytes it needs on the adapter, where that may be too much. */
  readonly memory?: number;
  /** Its rate is what other benches are compared with: FLOP/s, or bytes per second. */
  readonly yardstick?: "product" | "copy";
  /** What of a training run it is a measure of (`rates.ts`). */
  readonly rate?: RateOf;
  /** Peers are measured when ours has been closed: together they may need more memory than there is. */
  readonly alone?: boolean;
  /** Run only where the beginning of its name is asked for. */
  readonly onlyAsked?: boolean;
  /** The most rounds: of what takes long, and is looked at for its order of magnitude. */
  readonly rounds?: number;
  /** One run, without others to warm up: what it shows is not its speed. */
  readonly once?: boolean;
  /** Where it stands on a curve of cost against size (`curves.ts`). */
  readonly point?: Point;
  readonly peers?: readonly Peer[];
  /** The least time of one repetition on the hardware named, where that is what the time is to be compared with. */
  readonly floor?: { readonly seconds: number; readonly of: string };
  /** What else a reader should know. */
  readonly note?: string;
  open(): Promise<Prepared>;
}

/** One side of a bench, measured. */
export interface Measured {
  /** Median over rounds, of one repetition. */
  readonly seconds: number;
  readonly fastest: number;
  readonly slowest: number;
  readonly repetitions: number;
  /** Of the round in which it was least: what disturbs the host only adds to it. */
  readonly hostSeconds: number | null;
  readonly counts: Counts | null;
  readonly peakBytes: number | null;
  readonly description: string | null;
  readonly work: Work | null;
}

export interface MeasureOptions {
  readonly rounds: number;
  /** What one round should take. */
  readonly seconds: number;
  /** Milliseconds on the clock of `performance.now()` after which no further round begins. */
  readonly deadline: number;
}

interface Side {
  readonly name: string;
  readonly prepared: Prepared;
  readonly count: number;
  readonly samples: Sample[];
  /** Of one repetition, in the last round. */
  counts: Counts | null;
}

/** A peer, measured. */
export interface MeasuredPeer {
  readonly name: string;
  readonly measured: Measured;
}

/**
 * Measures ours and those peers that are there, round by round in turn; or one after the other, where a bench must be alone. A peer
 * that fails is left out, and `say` is told.
 */
export async function measure(
  bench: Bench,
  peers: readonly Peer[],
  options: MeasureOptions,
  say: (missing: string) => void,
): Promise<{ readonly ours: Measured; readonly theirs: readonly MeasuredPeer[] }> {
  const seconds = bench.seconds ?? options.seconds;
  const ours: Peer = { name: "", open: () => bench.open() };
  const measured: MeasuredPeer[] = [];
  const how = {
    rounds: Math.min(options.rounds, bench.once === true ? 1 : (bench.rounds ?? Infinity)),
    seconds,
    warm: bench.once !== true,
  };
  const turns = (sides: readonly Peer[]): Promise<MeasuredPeer[]> => inTurn(bench.name, sides, { ...how, deadline: options.deadline }, say);
  if (bench.alone === true) for (const one of [ours, ...peers]) measured.push(...(await turns([one])));
  else measured.push(...(await turns([ours, ...peers])));
  const [first, ...theirs] = measured;
  return { ours: first!.measured, theirs };
}

/** A nameless side is ours: its errors are thrown. */
async function inTurn(
  bench: string,
  all: readonly Peer[],
  { rounds, seconds, deadline, warm }: MeasureOptions & { readonly warm: boolean },
  say: (missing: string) => void,
): Promise<MeasuredPeer[]> {
  const open: Prepared[] = [];
  const guarded = async (name: string, work: () => Promise<void>): Promise<boolean> => {
    try {
      await work();
      return true;
    } catch (error) {
      if (name === "") throw error;
      say(`${name} at ${bench} (${(error instanceof Error ? error.message : String(error)).split("\n")[0] ?? ""})`);
      return false;
    }
  };
  try {
    const sides = new Set<Side>();
    for (const { name, open: prepare } of all)
      await guarded(name, async () => {
        const prepared = await prepare();
        if (prepared === null) return;
        open.push(prepared);
        sides.add(warm ? await calibrate(name, prepared, seconds) : { name, prepared, count: 1, samples: [], counts: null });
      });
    for (let round = 0; round < rounds; round++) {
      for (const side of sides) if (!(await guarded(side.name, () => runRound(side)))) sides.delete(side);
      if (performance.now() > deadline) break;
    }
    return [...sides].map((side) => ({ name: side.name, measured: summary(side) }));
  } finally {
    for (const prepared of open) await prepared.close();
  }
}

async function runRound(side: Side): Promise<void> {
  const { prepared, count, samples } = side;
  const before = prepared.counts?.();
  const [dispatches, submissions, bindGroupsMade] =
    before === undefined ? [0, 0, 0] : [before.dispatches, before.submissions, before.bindGroupsMade];
  samples.push(await prepared.run(count));
  const after = prepared.counts?.();
  if (after === undefined) return;
  side.counts = {
    dispatches: (after.dispatches - dispatches) / count,
    submissions: (after.submissions - submissions) / count,
    bindGroupsMade: (after.bindGroupsMade - bindGroupsMade) / count,
  };
}

/** The first run compiles, the second tells how many repetitions fill a round. */
async function calibrate(name: string, prepared: Prepared, seconds: number): Promise<Side> {
  const most = prepared.most ?? 100_000;
  await prepared.run(1);
  let count = 1;
  for (;;) {
    const sample = await prepared.run(count);
    if (sample.seconds >= seconds / 2 || count >= most) break;
    // A short run is mostly waiting: grow step by step.
    count = Math.min(most, Math.max(count + 1, Math.min(10 * count, Math.round((count * seconds) / Math.max(sample.seconds, 1e-6)))));
  }
  return { name, prepared, count, samples: [], counts: null };
}

function summary({ samples, count, counts, prepared }: Side): Measured {
  const each = samples.map(({ seconds }) => seconds / count);
  const host = samples.flatMap(({ hostSeconds }) => (hostSeconds === undefined ? [] : [hostSeconds / count]));
  return {
    seconds: median(each),
    fastest: Math.min(...each),
    slowest: Math.max(...each),
    repetitions: count,
    hostSeconds: host.length === 0 ? null : Math.min(...host),
    counts,
    peakBytes: prepared.peakBytes?.() ?? null,
    description: prepared.description ?? null,
    work: prepared.work ?? null,
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

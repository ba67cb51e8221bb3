/** From measurements to one line for people and one object for the JSON line. */
import type { Bench, Measured, MeasuredPeer, Point } from "./bench.js";
import type { Peak, Yardsticks } from "./peaks.js";

export interface Result {
  readonly name: string;
  readonly device: string;
  readonly value: number;
  readonly unit: string;
  /** The fastest peer. */
  readonly peer?: string;
  readonly peerValue?: number;
  readonly ratio?: number;
  readonly peers?: readonly { readonly name: string; readonly value: number; readonly ratio: number }[];
  readonly seconds: number;
  readonly fastest: number;
  readonly slowest: number;
  readonly repetitions: number;
  /** Dispatches, submissions, bind groups made anew, and the host's microseconds, of one repetition. */
  readonly dispatches?: number;
  readonly submissions?: number;
  readonly bindGroupsMade?: number;
  readonly hostMicroseconds?: number;
  readonly hostMicrosecondsPerDispatch?: number;
  /** The host's time over the least time that the hardware named needs: below 1 it can be hidden. */
  readonly hostOverFloor?: number;
  readonly floorMicroseconds?: number;
  readonly floorOf?: string;
  readonly tflops?: number;
  /** Share of the peak FLOP/s. */
  readonly mfu?: number;
  /** Share of the square product's FLOP/s, measured in the same run. */
  readonly ofMeasuredGemm?: number;
  readonly flopsFormula?: string;
  readonly gbps?: number;
  /** Share of the peak bandwidth. */
  readonly roofline?: number;
  /** Share of the buffer copy's bandwidth, measured in the same run. */
  readonly ofMeasuredCopy?: number;
  readonly bytesFormula?: string;
  /** The most memory in use on the device, in GB. */
  readonly memoryGb?: number;
  readonly note?: string;
  readonly point?: Point;
}

export interface Standards {
  readonly peak: Peak | null;
  readonly yardsticks: Yardsticks;
}

export function resultOf(bench: Bench, ours: Measured, theirs: readonly MeasuredPeer[], { peak, yardsticks }: Standards): Result {
  const value = bench.amount / ours.seconds;
  const peers = theirs
    .map(({ name, measured }) => ({
      name: measured.description ?? name,
      value: digits(bench.amount / measured.seconds),
      ratio: digits(measured.seconds / ours.seconds),
    }))
    .sort((a, b) => a.ratio - b.ratio);
  const best = peers[0];
  const { flops, flopsFormula, bytes, bytesFormula } = ours.work ?? bench.work ?? {};
  const rate = flops === undefined ? null : flops / ours.seconds;
  const flow = bytes === undefined ? null : bytes / ours.seconds;
  const most = bench.precision === undefined ? null : (peak?.flops[bench.precision] ?? null);
  const share = (of: number | null, whole: number | null | undefined): number | undefined =>
    of === null || whole === null || whole === undefined ? undefined : digits(of / whole, 3);
  return present({
    name: bench.name,
    device: ours.description ?? "",
    value: digits(value),
    unit: bench.unit,
    peer: best?.name,
    peerValue: best?.value,
    ratio: best?.ratio,
    peers: peers.length > 1 ? peers : undefined,
    seconds: digits(ours.seconds),
    fastest: digits(ours.fastest),
    slowest: digits(ours.slowest),
    repetitions: ours.repetitions,
    dispatches: ours.counts === null ? undefined : digits(ours.counts.dispatches),
    submissions: ours.counts === null ? undefined : digits(ours.counts.submissions),
    bindGroupsMade: ours.counts === null ? undefined : digits(ours.counts.bindGroupsMade),
    hostMicroseconds: ours.hostSeconds === null ? undefined : digits(1e6 * ours.hostSeconds),
    hostMicrosecondsPerDispatch:
      ours.hostSeconds === null || ours.counts === null ? undefined : digits((1e6 * ours.hostSeconds) / ours.counts.dispatches),
    hostOverFloor: bench.floor === undefined ? undefined : share(ours.hostSeconds, bench.floor.seconds),
    floorMicroseconds: bench.floor === undefined ? undefined : digits(1e6 * bench.floor.seconds),
    floorOf: bench.floor?.of,
    tflops: rate === null ? undefined : digits(rate / 1e12),
    mfu: share(rate, most),
    ofMeasuredGemm: bench.precision === undefined ? undefined : share(rate, yardsticks.gemmFlops),
    flopsFormula,
    gbps: flow === null ? undefined : digits(flow / 1e9),
    roofline: share(flow, peak?.bytes),
    ofMeasuredCopy: share(flow, yardsticks.copyBytes),
    bytesFormula,
    memoryGb: ours.peakBytes === null ? undefined : digits(ours.peakBytes / 1e9),
    note: bench.note,
    point: bench.point,
  });
}

/** One line: name, rate, ratio to the fastest peer, then what limits it. */
export function lineOf(result: Result): string {
  const {
    name,
    value,
    unit,
    ratio,
    peer,
    peerValue,
    tflops,
    mfu,
    ofMeasuredGemm,
    gbps,
    roofline,
    ofMeasuredCopy,
    dispatches,
    hostMicroseconds,
    hostOverFloor,
    memoryGb,
  } = result;
  const percent = (share: number | undefined, of: string): string => (share === undefined ? "" : `${(100 * share).toFixed(1)} % of ${of}`);
  const list = (...parts: string[]): string => parts.filter((part) => part !== "").join(", ");
  const facts = [
    tflops === undefined
      ? ""
      : list(unit === "TFLOP/s" ? "" : `${tflops} TFLOP/s`, percent(mfu, "peak (MFU)"), percent(ofMeasuredGemm, "GEMM")),
    gbps === undefined ? "" : list(unit === "GB/s" ? "" : `${gbps} GB/s`, percent(roofline, "peak"), percent(ofMeasuredCopy, "copy")),
    dispatches === undefined
      ? ""
      : list(
          `${dispatches} dispatches`,
          hostMicroseconds === undefined ? "" : `${(hostMicroseconds / 1000).toPrecision(3)} ms of JavaScript`,
          (result.bindGroupsMade ?? 0) < 0.5 ? "" : `${result.bindGroupsMade ?? 0} bind groups made`,
          hostOverFloor === undefined ? "" : `${result.hostMicrosecondsPerDispatch ?? ""} us each, ${hostOverFloor} of the GPU's floor`,
        ),
    memoryGb === undefined ? "" : `${memoryGb} GB at most`,
  ].filter((part) => part !== "");
  return [
    name.padEnd(34),
    String(value).padStart(9),
    unit.padEnd(9),
    ratio === undefined ? "no peer" : `${ratio.toFixed(2)} of ${peer ?? ""} (${peerValue ?? ""})`,
    ...facts,
  ].join("  ");
}

/** One of the goals set for an NVIDIA H200, as far as this run measured it. */
export interface Goal {
  readonly goal: string;
  readonly wanted: number;
  readonly got: number;
}

export function goalsOf(results: readonly Result[], { copyBytes, gemmFlops }: Yardsticks): Goal[] {
  const goals: Goal[] = [];
  const add = (goal: string, wanted: number, got: number | null | undefined): void => {
    if (got !== null && got !== undefined) goals.push({ goal, wanted, got: digits(got, 3) });
  };
  const named = (name: string): Result | undefined => results.find((result) => result.name === name);
  const copy = named("copy/wgsl");
  if (copy !== undefined && copyBytes !== null) add("copy kernel over buffer copy", 0.85, (copy.value * 1e9) / copyBytes);
  if (gemmFlops !== null) add("f16 product of 4096^3, TFLOP/s", 200, gemmFlops / 1e12);
  for (const model of ["0.5B", "1.5B", "3B"])
    add(`training step of ${model} over that product's rate`, 0.6, named(`train/${model}`)?.ofMeasuredGemm);
  add("decode of 3B at batch 64 over the memory roofline", 0.6, named("decode/3B/b64")?.roofline);
  for (const { name, hostMicroseconds, seconds } of results)
    if (/^(decode|train)\/(1\.5B|3B)(\/|$)/.test(name) && hostMicroseconds !== undefined)
      add(`JavaScript's share of ${name}, at most`, 1, hostMicroseconds / 1e6 / seconds);
  return goals;
}

export function digits(value: number, count = 4): number {
  return Number(value.toPrecision(count));
}

/** Without what is undefined. */
function present<T extends Record<keyof Result, unknown>>(fields: T): Result {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as unknown as Result;
}

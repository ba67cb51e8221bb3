/** The work of merging, on worker threads. The result does not depend on their number: every element is computed alone. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { ZeroSearchError } from "../util/errors.ts";
import { makeMerge, type Merged, type MergeJob } from "./merge-kernel.ts";

/** More threads wait for the disk. */
const MOST_THREADS = 8;
/** Multiplications and additions below which a job is not worth a message to a thread. */
const SMALL = 1 << 20;

const workerSource = `
const { parentPort } = require("node:worker_threads");
const merge = (${makeMerge.toString()})();
parentPort.on("message", (job) => {
  const merged = merge(job);
  parentPort.postMessage(merged, [merged.data.buffer]);
});
`;

/** One thread and what was asked of it, in order. */
interface Thread {
  readonly worker: Worker;
  readonly waiting: { resolve: (merged: Merged) => void; reject: (error: Error) => void }[];
}

export class MergeThreads {
  private readonly size: number;
  private readonly threads: Thread[] = [];
  private readonly here = makeMerge();

  /** `size` threads, as many as the machine has processors unless told; they start when there is work for them. */
  constructor(size: number = Math.min(availableParallelism(), MOST_THREADS)) {
    this.size = size;
  }

  /** Merges rows, shared among the threads. The job's arrays are only read. */
  async merge(job: MergeJob): Promise<Merged> {
    const { rows, cols, rank } = job;
    const shares = Math.min(this.size, rows, Math.floor((rows * cols * Math.max(rank, 1)) / SMALL));
    if (shares <= 1) return this.here(job);
    const from = (share: number): number => Math.floor((share * rows) / shares);
    const parts = await Promise.all(
      Array.from({ length: shares }, (_, share) => {
        const [first, end] = [from(share), from(share + 1)];
        // Rows in memory of their own.
        const [base, b] = [job.base.slice(first * cols, end * cols), job.b.slice(first * rank, end * rank)];
        return this.ask(share, { ...job, rows: end - first, base, b });
      }),
    );
    const data = job.dtype === "f32" ? new Float32Array(rows * cols) : new Uint16Array(rows * cols);
    let notFinite = -1;
    parts.forEach((part, share) => {
      data.set(part.data, from(share) * cols);
      if (notFinite < 0 && part.notFinite >= 0) notFinite = from(share) * cols + part.notFinite;
    });
    return { data, notFinite, exact: parts.reduce((sum, part) => sum + part.exact, 0) };
  }

  async stop(): Promise<void> {
    await Promise.all(this.threads.map(({ worker }) => worker.terminate()));
    this.threads.length = 0;
  }

  private ask(index: number, job: MergeJob): Promise<Merged> {
    const { worker, waiting } = (this.threads[index] ??= start());
    return new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      worker.postMessage(job, [job.base.buffer as ArrayBuffer, job.b.buffer as ArrayBuffer]);
    });
  }
}

function start(): Thread {
  const worker = new Worker(workerSource, { eval: true, name: "zerosearch-merge", execArgv: [], env: {} });
  const waiting: Thread["waiting"] = [];
  const fail = (got: string): void => {
    const error = new ZeroSearchError({ where: "merge", what: "a worker thread ended", got });
    for (const { reject } of waiting.splice(0)) reject(error);
  };
  worker.on("message", (merged: Merged) => waiting.shift()?.resolve(merged));
  worker.on("error", (error) => fail(String(error)));
  worker.on("exit", (code) => fail(`exit code ${code}`));
  return { worker, waiting };
}

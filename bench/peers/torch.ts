/** The peer `torch` on the CPU: a Python program in a process of its own that takes turns with us, one command a line. */
import { spawn, type ChildProcess } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { pythonWithTorch } from "./torch-models.js";

export class TorchPeer {
  readonly version: string;
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private readonly reader: Interface;

  private constructor(child: ChildProcess, reader: Interface, lines: AsyncIterator<string>, version: string) {
    this.child = child;
    this.reader = reader;
    this.lines = lines;
    this.version = version;
  }

  /** `script`: its name beside this file's source. Null where there is no Python with torch, which `say` is told. */
  static async start(script: string, say: (missing: string) => void): Promise<TorchPeer | null> {
    const python = pythonWithTorch();
    const path = fileURLToPath(new URL(`../../../bench/peers/${script}`, import.meta.url));
    if (python === null) {
      say("torch (no python3 with PyTorch; set BENCH_PYTHON, or Debian: apt-get install python3-torch)");
      return null;
    }
    // Threads of PyTorch that wait busily take the cores that ours then miss.
    const child = spawn(python, [path], { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, OMP_WAIT_POLICY: "passive" } });
    const failed = new Promise<null>((resolve) =>
      child
        .once("error", () => {
          resolve(null);
        })
        .once("exit", () => {
          resolve(null);
        }),
    );
    const reader = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const lines = reader[Symbol.asyncIterator]();
    const first = await Promise.race([lines.next().then(({ value, done }) => (done === true ? null : value)), failed]);
    if (first === null) {
      say(`torch (${python} ${path} does not start)`);
      return null;
    }
    const { torch } = JSON.parse(first) as { torch: string };
    return new TorchPeer(child, reader, lines, torch);
  }

  /** Seconds of one run of a command. */
  async seconds(command: string): Promise<number> {
    this.child.stdin?.write(`${command}\n`);
    const { value, done } = await this.lines.next();
    if (done === true) throw new Error(`torch peer: ended at ${command}`);
    return (JSON.parse(value) as { seconds: number }).seconds;
  }

  /** The fastest of 1, 2, 4 ... `most` threads for a command, by the better of two runs each; it stays set. */
  async bestThreads(command: string, most: number): Promise<number> {
    let best = { threads: 1, seconds: Infinity };
    const counts = [most];
    for (let threads = 1; threads < most; threads *= 2) counts.push(threads);
    for (const threads of counts) {
      await this.seconds(`threads ${threads}`);
      await this.seconds(command);
      const seconds = Math.min(await this.seconds(command), await this.seconds(command));
      if (seconds < best.seconds) best = { threads, seconds };
    }
    await this.seconds(`threads ${best.threads}`);
    return best.threads;
  }

  stop(): void {
    this.reader.close();
    this.child.kill();
  }
}

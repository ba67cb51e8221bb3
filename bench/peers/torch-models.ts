/** PyTorch doing what the GPU benches do, in a process of its own (torch_models.py) that takes turns with us. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Prepared } from "../bench.js";

const script = fileURLToPath(new URL("../../../bench/peers/torch_models.py", import.meta.url));

interface Reply {
  readonly error?: string;
  readonly missing?: string;
  readonly description?: string;
  readonly most?: number;
  readonly seconds?: number;
}

/** The first Python that has torch: BENCH_PYTHON, python3 of the path, the system's. */
export function pythonWithTorch(): string | null {
  const candidates = [process.env["BENCH_PYTHON"], "python3", "/usr/bin/python3"].filter((path) => path !== undefined);
  return (
    candidates.find(
      (path) => spawnSync(path, ["-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"]).status === 0,
    ) ?? null
  );
}

export class TorchModels {
  /** "2.11.0 on NVIDIA H200" */
  readonly version: string;
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private readonly say: (missing: string) => void;
  private ids = 0;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, version: string, say: (missing: string) => void) {
    this.child = child;
    this.lines = lines;
    this.version = version;
    this.say = say;
  }

  /** Null where there is no Python with torch; `say` is told what is missing, then and later. */
  static async start(say: (missing: string) => void): Promise<TorchModels | null> {
    const python = pythonWithTorch();
    if (python === null) {
      say("torch (no python3 with PyTorch; set BENCH_PYTHON, or Debian: apt-get install python3-torch)");
      return null;
    }
    const child = spawn(python, [script], { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, OMP_WAIT_POLICY: "passive" } });
    child.stdin.on("error", () => {}); // it has ended; the next reply says so
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await Promise.race([
      lines.next(),
      new Promise<null>((resolve) => {
        child.once("error", () => {
          resolve(null);
        });
      }),
    ]);
    if (first === null || first.done === true) {
      say(`torch (${python} ${script} does not start)`);
      return null;
    }
    const { torch, device } = JSON.parse(first.value) as { torch: string; device: string };
    return new TorchModels(child, lines, `${torch} on ${device}`, say);
  }

  /** Null where this variant cannot be had, which is said. */
  async prepare(kind: string, variant: string, numbers: Readonly<Record<string, unknown>>): Promise<Prepared | null> {
    this.ids += 1;
    const id = this.ids;
    const { error, missing, description, most } = await this.ask({ id, op: "prepare", kind, variant, numbers });
    if (error !== undefined || missing !== undefined) {
      this.say(`torch ${[kind, variant].filter((part) => part !== "").join(", ")} (${error ?? missing ?? ""})`);
      return null;
    }
    return {
      ...(description === undefined ? {} : { description }),
      ...(most === undefined ? {} : { most }),
      run: async (count) => {
        const reply = await this.ask({ id, op: "run", count });
        if (reply.seconds === undefined) throw new Error(`torch ${kind}: ${reply.error ?? "no answer"}`);
        return { seconds: reply.seconds };
      },
      close: async () => {
        await this.ask({ id, op: "close" });
      },
    };
  }

  stop(): void {
    this.child.kill();
  }

  private async ask(request: Readonly<Record<string, unknown>>): Promise<Reply> {
    this.child.stdin?.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.lines.next();
    return done === true ? { error: "the process has ended" } : (JSON.parse(value) as Reply);
  }
}

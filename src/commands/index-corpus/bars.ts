/** Progress of building an index: one bar after the other, over the bytes of a corpus or over lists. */
import { formatCount, Progress, steadyClock, type Fields, type TextStream } from "../../log/progress.ts";

/** Between two lines where there is no terminal: milliseconds. */
const INTERVAL = 10_000;
const MIB = 2 ** 20;

export interface Phase {
  readonly label: string;
  readonly done: number;
  readonly total: number;
  /** Whether `done` and `total` are bytes. */
  readonly bytes: boolean;
  /** What has been made so far, by name: shown with its rate since the bar began. */
  readonly made?: Readonly<Record<string, number>>;
}

export class Bars {
  readonly #stream: TextStream;
  #bar: Progress | null = null;
  #label = "";
  /** When the bar began, and what was made by then. */
  #from: { readonly at: number; readonly made: Readonly<Record<string, number>> } = { at: 0, made: {} };

  constructor(stream: TextStream = process.stdout) {
    this.#stream = stream;
  }

  update({ label, done, total, bytes, made = {} }: Phase): void {
    const scale = bytes ? MIB : 1;
    if (this.#bar === null || this.#label !== label) {
      this.finish();
      this.#label = label;
      this.#from = { at: steadyClock(), made };
      this.#bar = new Progress({
        label,
        total: total / scale,
        from: done / scale,
        ...(bytes ? { unit: "MiB" } : {}),
        plainInterval: INTERVAL,
        stream: this.#stream,
      });
    }
    const seconds = (steadyClock() - this.#from.at) / 1000;
    const fields: Record<string, Fields[string]> = {};
    for (const [name, count] of Object.entries(made)) {
      fields[name] = formatCount(count);
      fields[`${name}/s`] = formatCount(seconds > 0 ? Math.round((count - (this.#from.made[name] ?? 0)) / seconds) : 0);
    }
    this.#bar.update(done / scale, fields);
  }

  say(text: string): void {
    if (this.#bar === null) this.#stream.write(`${text}\n`);
    else this.#bar.print(text);
  }

  finish(): void {
    this.#bar?.finish();
    this.#bar = null;
  }
}

/**
 * Progress for people: one line that is drawn over on a terminal, plain lines elsewhere. Bars for training, loading and building
 * alike; text around a bar is printed above it.
 */

/** Where text goes: `process.stdout`, or a test's own. */
export interface TextStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Milliseconds from any origin. */
export type Clock = () => number;
/** Milliseconds that only ever rise. */
export const steadyClock: Clock = () => performance.now();

export interface ProgressOptions {
  /** What is counted, before the count: "step", "loading". */
  readonly label: string;
  /** Count at the end. */
  readonly total: number;
  /** Count at the start: where a resumed run goes on; the rate counts from here. */
  readonly from?: number;
  /** What one is, for the rate: "tokens" shows "1,200 tokens/s". Without it no rate is shown. */
  readonly unit?: string;
  readonly stream?: TextStream;
  readonly clock?: Clock;
  /** Not a terminal: at least so many milliseconds between two lines; 0 prints every update. */
  readonly plainInterval?: number;
}

/** Named values beside the bar, in order; numbers as they should be read. */
export type Fields = Readonly<Record<string, string | number>>;

const BAR = 20;
/** Terminal redraws are no more frequent than this: milliseconds. */
const REDRAW = 50;

export class Progress {
  readonly #options: ProgressOptions & Required<Omit<ProgressOptions, "unit">>;
  readonly #started: number;
  #done: number;
  #fields: Fields = {};
  #drawnAt = -Infinity;
  #drawn = false;
  #open = true;

  constructor(options: ProgressOptions) {
    this.#options = { from: 0, stream: process.stdout, clock: steadyClock, plainInterval: 0, ...options };
    this.#started = this.#options.clock();
    this.#done = this.#options.from;
    if (this.#options.stream.isTTY === true) this.#redraw();
  }

  /** Sets the count and the fields, and draws. */
  update(done: number, fields: Fields = this.#fields): void {
    if (!this.#open) return;
    this.#done = done;
    this.#fields = fields;
    const { total, stream, clock, plainInterval } = this.#options;
    const now = clock();
    const last = done >= total;
    if (stream.isTTY === true) {
      if (last || now - this.#drawnAt >= REDRAW) this.#redraw();
    } else if (last || now - this.#drawnAt >= plainInterval) {
      this.#drawnAt = now;
      stream.write(`${this.line(Infinity)}\n`);
    }
  }

  /** As `update`; on a terminal the line stays, and the bar goes on below it. */
  mark(done: number, fields: Fields): void {
    const { stream, columns } = { stream: this.#options.stream, columns: this.#columns() };
    if (!this.#open || stream.isTTY !== true) {
      this.update(done, fields);
      return;
    }
    [this.#done, this.#fields] = [done, fields];
    this.print(this.line(columns, ""));
  }

  /** Prints a line that stays, above the bar. */
  print(text: string): void {
    this.#erase();
    this.#options.stream.write(`${text}\n`);
    if (this.#open && this.#options.stream.isTTY === true) this.#redraw();
  }

  /** Ends the bar. It stays on the terminal as it was drawn last; with `text`, that stands in its place. */
  finish(text?: string): void {
    if (!this.#open) return;
    if (this.#options.stream.isTTY === true) {
      if (text === undefined) {
        this.#redraw();
        this.#options.stream.write("\n");
        this.#drawn = false;
      } else this.#erase();
    }
    this.#open = false;
    if (text !== undefined) this.#options.stream.write(`${text}\n`);
  }

  /** The line as it stands, in at most `columns` characters: fields that do not fit are left out from the end, bar and ETA before the first. */
  line(columns: number, bar?: string): string {
    const { label, total, from, unit, clock } = this.#options;
    const seconds = (clock() - this.#started) / 1000;
    const made = this.#done - from;
    const share = total > 0 ? Math.min(1, this.#done / total) : 1;
    const filled = Math.round(share * BAR);
    const count = `${label} ${formatCount(this.#done)}/${formatCount(total)}`;
    let drawn = bar ?? ` ${"█".repeat(filled)}${"░".repeat(BAR - filled)}`;
    const ends: string[] = [];
    if (unit !== undefined && made > 0 && seconds > 0) ends.push(`${formatCount(made / seconds)} ${unit}/s`);
    if (this.#done >= total) ends.push(formatDuration(seconds));
    else if (made > 0) ends.push(`ETA ${formatDuration((seconds / made) * (total - this.#done))}`);
    const fields = Object.entries(this.#fields).map(
      ([name, value]) => `${name} ${typeof value === "number" ? formatNumber(value) : value}`,
    );
    const text = (): string => [`${count}${drawn}`, ...fields, ...ends].join("  ");
    while (fields.length > 1 && text().length > columns) fields.pop();
    if (fields.length > 0 && text().length > columns) drawn = "";
    if (fields.length > 0 && text().length > columns) ends.length = 0;
    return text().slice(0, columns === Infinity ? undefined : columns);
  }

  #redraw(): void {
    this.#options.stream.write(`\r\x1b[K${this.line(this.#columns())}`);
    this.#drawnAt = this.#options.clock();
    this.#drawn = true;
  }

  /** One column is left free: a full last column makes some terminals wrap. */
  #columns(): number {
    return (this.#options.stream.columns ?? 80) - 1;
  }

  #erase(): void {
    if (this.#drawn) this.#options.stream.write("\r\x1b[K");
    this.#drawn = false;
  }
}

/** Three significant digits, or a whole number with separators from 1,000 on. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return formatCount(value);
  if (Math.abs(value) >= 0.01) return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3);
  return value.toExponential(1);
}

/** 12,345; one decimal below 10 where there is one. */
export function formatCount(value: number): string {
  if (!Number.isInteger(value) && Math.abs(value) < 10) return value.toFixed(1);
  return Math.round(value).toLocaleString("en-US");
}

/** 8 s, 3:20, 1:02:05. */
export function formatDuration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

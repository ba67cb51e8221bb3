import { describe, expect, it } from "vitest";
import { formatBytes } from "../../src/util/bytes.ts";
import { Progress, formatCount, formatDuration, formatNumber, type TextStream } from "../../src/log/progress.ts";

class Screen implements TextStream {
  text = "";
  readonly isTTY: boolean;
  readonly columns: number;
  constructor(isTTY: boolean, columns = 100) {
    this.isTTY = isTTY;
    this.columns = columns;
  }
  write(text: string): void {
    this.text += text;
  }
  /** What stands on the screen: a carriage return with erase starts the line again. */
  get lines(): string[] {
    return this.text.split("\n").map((line) => line.split("\r\x1b[K").at(-1) ?? "");
  }
}

function start(options: { isTTY: boolean; columns?: number; from?: number; total?: number; unit?: string; plainInterval?: number }) {
  const screen = new Screen(options.isTTY, options.columns);
  const time = { now: 0 };
  const progress = new Progress({ label: "step", total: 10, stream: screen, clock: () => time.now, ...options });
  return { screen, time, progress };
}

describe("a progress bar on a terminal", () => {
  it("draws over one line and shows count, fields and time left", () => {
    const { screen, time, progress } = start({ isTTY: true });
    time.now = 30_000;
    progress.update(3, { reward: 0.4567, searches: 1.8 });
    expect(screen.text).not.toContain("\n");
    expect(screen.lines).toEqual(["step 3/10 ██████░░░░░░░░░░░░░░  reward 0.457  searches 1.80  ETA 1:10"]);
    progress.finish();
    expect(screen.text.endsWith("\n")).toBe(true);
  });

  it("reckons the time left from where a resumed run began", () => {
    const { screen, time, progress } = start({ isTTY: true, from: 5 });
    time.now = 10_000;
    progress.update(6);
    expect(screen.lines[0]).toContain("ETA 40 s");
  });

  it("leaves out the last fields, never wraps, on a narrow terminal", () => {
    const { screen, time, progress } = start({ isTTY: true, columns: 50 });
    time.now = 1000;
    progress.update(1, { reward: 0.5, searches: 1, valid: 1 });
    expect(screen.lines[0]).toContain("ETA");
    expect(screen.lines[0]).not.toContain("valid");
    expect(Array.from(screen.lines[0] ?? "").length).toBeLessThan(50);
  });

  it("keeps printed lines above the bar", () => {
    const { screen, time, progress } = start({ isTTY: true });
    time.now = 1000;
    progress.update(1);
    progress.print("saved");
    expect(screen.lines[0]).toBe("saved");
    expect(screen.lines[1]).toContain("step 1/10");
    progress.finish("done");
    expect(screen.lines.slice(0, 2)).toEqual(["saved", "done"]);
  });

  it("leaves a line of what is finished above the bar", () => {
    const { screen, time, progress } = start({ isTTY: true, columns: 60 });
    for (const step of [1, 2]) {
      time.now += 1000;
      progress.mark(step, { reward: step / 2 });
    }
    expect(screen.lines.slice(0, 2)).toEqual(["step 1/10  reward 0.500  ETA 9.0 s", "step 2/10  reward 1  ETA 8.0 s"]);
    expect(screen.lines[2]).toBe("step 2/10 ████░░░░░░░░░░░░░░░░  reward 1  ETA 8.0 s");
  });

  it("gives up other fields, the bar and the ETA, in this order, before the first field", () => {
    const { progress } = start({ isTTY: true, columns: 30 });
    progress.update(1, { reward: 0.5, searches: 2 });
    expect(progress.line(70)).toContain("reward 0.500  searches 2");
    expect(progress.line(60)).toMatch(/█.*reward 0.500/);
    expect(progress.line(40)).toBe("step 1/10  reward 0.500  ETA 0.0 s");
    expect(progress.line(29)).toBe("step 1/10  reward 0.500");
  });

  it("redraws at most every 50 ms, but always the end", () => {
    const { screen, time, progress } = start({ isTTY: true, total: 1000 });
    time.now = 100;
    for (let i = 1; i <= 1000; i++) progress.update(i);
    expect(screen.text.split("\r").length - 1).toBe(3);
    expect(screen.lines[0]).toContain("1,000/1,000");
  });
});

describe("progress in a file or a pipe", () => {
  it("prints one plain line an update, without control characters", () => {
    const { screen, time, progress } = start({ isTTY: false, columns: 20 });
    for (const step of [1, 2]) {
      time.now += 2000;
      progress.update(step, { reward: step, "tokens/s": 1234.5 });
    }
    progress.finish("done");
    expect(screen.text).not.toMatch(/[\r\x1b]/);
    expect(screen.lines[1]).toBe("step 2/10 ████░░░░░░░░░░░░░░░░  reward 2  tokens/s 1,235  ETA 16 s");
    expect(screen.lines[2]).toBe("done");
  });

  it("prints no more often than asked, but always the end", () => {
    const { screen, time, progress } = start({ isTTY: false, plainInterval: 5000, unit: "rows" });
    for (let i = 1; i <= 10; i++) {
      time.now += 1000;
      progress.update(i);
    }
    progress.finish();
    expect(screen.lines.map((line) => /step (\d+)/.exec(line)?.[1])).toEqual(["1", "6", "10", undefined]);
    expect(screen.lines[2]).toContain("1 rows/s  10 s");
  });
});

describe("numbers for people", () => {
  it("have three digits, separators and units", () => {
    expect([0, 0.5, 0.12345, 1.234, 12.34, 123.4, 1234.5, 2e-4, NaN].map(formatNumber)).toEqual([
      "0",
      "0.500",
      "0.123",
      "1.23",
      "12.3",
      "123",
      "1,235",
      "2.0e-4",
      "NaN",
    ]);
    expect([3, 3.14, 31.4, 12345].map(formatCount)).toEqual(["3", "3.1", "31", "12,345"]);
    expect([0.5, 9.96, 59.4, 60, 3599.6, 3725].map(formatDuration)).toEqual(["0.5 s", "10 s", "59 s", "1:00", "1:00:00", "1:02:05"]);
    expect([100, 1536, 12 * 2 ** 20].map(formatBytes)).toEqual(["100 bytes", "1.5 KiB", "12 MiB"]);
  });
});

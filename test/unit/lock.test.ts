/** The lock of a download: one holder at a time, whoever was killed. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { takeLock, withLock } from "../../src/checkpoint/lock.ts";

const times = { beat: 10, look: 3, ended: 30, silent: 3000 };
let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-lock-"));
  file = join(folder, "inner", "a.lock");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What a program that was killed leaves behind. */
function leave(host: string, pid: number): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${host} ${pid} 12345678-1234-1234-1234-123456789abc 000000000042`);
}

/** Enters a lock many times at once; returns the most that were inside together, and how many got in. */
async function crowd(count: number): Promise<{ most: number; entered: number }> {
  let inside = 0;
  let most = 0;
  let entered = 0;
  const enter = async (): Promise<void> => {
    most = Math.max(most, ++inside);
    entered++;
    await sleep(5);
    inside--;
  };
  await Promise.all(Array.from({ length: count }, () => withLock(file, enter, { times })));
  return { most, entered };
}

it("lets one in at a time, and all in the end", async () => {
  expect(await crowd(8)).toEqual({ most: 1, entered: 8 });
  expect(readdirSync(dirname(file))).toEqual([]);
});

it("is let go of when its holder fails", async () => {
  await expect(withLock(file, () => Promise.reject(new Error("broken")), { times })).rejects.toThrow("broken");
  expect(existsSync(file)).toBe(false);
  expect(await withLock(file, () => Promise.resolve("in"), { times })).toBe("in");
});

it("of a program of this machine that has ended is taken over soon, by one of many", async () => {
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  leave(hostname(), pid);
  expect(await crowd(6)).toEqual({ most: 1, entered: 6 });
  expect(readdirSync(dirname(file))).toEqual([]);
});

it("of another machine is taken over only after a long silence", async () => {
  leave("elsewhere", 1);
  const waiting = withLock(file, () => Promise.resolve("in"), { times: { ...times, silent: 200 } });
  expect(await Promise.race([waiting, sleep(100, "waits")])).toBe("waits");
  expect(await waiting).toBe("in");
});

it("stays with a holder that shows life, however long it takes", async () => {
  const order: string[] = [];
  const short = { ...times, ended: 60, silent: 60 };
  const first = withLock(
    file,
    async () => {
      await sleep(400);
      order.push("first");
    },
    { times: short },
  );
  await sleep(20);
  let waits = 0;
  await withLock(file, () => Promise.resolve(order.push("second")), { times: short, onWait: () => waits++ });
  await first;
  expect(order).toEqual(["first", "second"]);
  expect(waits).toBe(1);
});

it("that was taken over is neither written to nor removed by who had it before", async () => {
  await withLock(
    file,
    async () => {
      rmSync(file);
      leave("elsewhere", 7);
      await sleep(50);
    },
    { times },
  );
  expect(readFileSync(file, "utf8")).toMatch(/^elsewhere 7 /);
});

it("is refused with the holder's number where that lives, and taken where that number is another program's by now", async () => {
  const refuse = ({ host, pid }: { host: string; pid: number }): Error => new Error(`held by ${pid} of ${host}`);
  const lock = await takeLock(file, { times });
  await expect(takeLock(file, { times, refuse })).rejects.toThrow(`held by ${process.pid} of ${hostname()}`);
  const held = readFileSync(file, "utf8");
  await lock.close();
  // This program's number, but another birth: what a container's first process leaves for the next one.
  writeFileSync(file, held.replace(/^(\S+ \d+) \S+/, "$1 00000000:1"));
  const next = await takeLock(file, { times, refuse });
  expect(await next.held()).toBe(true);
  await next.close();
  expect(existsSync(file)).toBe(false);
});

it("of another machine is refused as soon as it beats, and taken over where it does not", async () => {
  leave("elsewhere", 1);
  const refuse = ({ host }: { host: string }): Error => new Error(`held on ${host}`);
  const waiting = takeLock(file, { times: { ...times, silent: 1000 }, refuse });
  setTimeout(() => writeFileSync(file, readFileSync(file, "utf8").replace(/42$/, "43")), 50);
  await expect(waiting).rejects.toThrow("held on elsewhere");
  const lock = await takeLock(file, { times: { ...times, silent: 100 }, refuse });
  rmSync(file);
  leave("elsewhere", 2);
  expect(await lock.held()).toBe(false);
  await lock.close();
});

it("is no longer waited for after a signal", async () => {
  leave("elsewhere", 1);
  const interrupt = new AbortController();
  const waiting = withLock(file, () => Promise.resolve(), { times, signal: interrupt.signal });
  setTimeout(() => interrupt.abort(new Error("interrupted")), 20);
  await expect(waiting).rejects.toThrow();
  expect(existsSync(file)).toBe(true);
});

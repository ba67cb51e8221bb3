/** The logs of a run on a full disk: what could not be written travels in a state that is saved elsewhere. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { RunState } from "../../src/checkpoint/run-state.ts";
import { resolveConfig } from "../../src/config/index.ts";
import type { RolloutRow } from "../../src/log/rows.ts";
import { openRunLogs } from "../../src/run/run-logs.ts";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "zerosearch-logs-"))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const config = (runs: string): ReturnType<typeof resolveConfig> => {
  const tree = {
    name: "one",
    output: { runs: join(folder, runs) },
    model: { policy: "p" },
    data: { train: "t" },
    simulator: { path: "s" },
  };
  return resolveConfig([{ tree, locate: () => "here" }]);
};
const silent = (text: string): void => expect.fail(text);
const rollout = (step: number): RolloutRow => ({ step, reward: 0 }) as RolloutRow;

it("keeps the rows of a step that found no room, and writes them where the run goes on", async () => {
  mkdirSync(join(folder, "full", "one"), { recursive: true });
  symlinkSync("/dev/full", join(folder, "full", "one", "metrics.jsonl"));
  const full = await openRunLogs(config("full"), 0, undefined, silent);
  expect(full.append({ step: 1 }, [rollout(1)])?.message).toMatch(/metrics\.jsonl: cannot be written: ENOSPC/);
  const unwritten = full.unwritten();
  expect(unwritten).toEqual({ "metrics.jsonl": '{"step":1}\n' });
  expect(() => full.sync()).toThrow("ENOSPC");
  const logBytes = full.bytes();
  full.close();

  // The disk has room again: the log holds what was written, the state the rest.
  rmSync(join(folder, "full", "one", "metrics.jsonl"));
  const state = { logBytes, extra: { unwritten } } as unknown as RunState;
  for (const time of ["first", "second"]) {
    const logs = await openRunLogs(config("full"), 1, state, silent);
    expect(logs.bytes(), time).toEqual(logBytes);
    logs.close();
    expect(readFileSync(join(folder, "full", "one", "metrics.jsonl"), "utf8"), time).toBe('{"step":1}\n');
  }
});

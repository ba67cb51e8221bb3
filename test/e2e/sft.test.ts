/** `zerosearch sft`: any model, all weights or an adapter; stopped and gone on with; what it leaves is used. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildIfStale, readRows, start, type Ended, type StartOptions } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
const zerosearch = (args: readonly string[], options?: StartOptions): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), ...args], { cwd: folder, ...options });
const recipe = ["sft.tokensPerUpdate=256", "sft.warmupSteps=2", "sft.learningRate=2e-3", "device.kind=cpu"];
const sft = (to: string, settings: readonly string[], options?: StartOptions): Promise<Ended> =>
  zerosearch(["sft", `model.policy=${join(models, "policy")}`, "sft.data=pairs.jsonl", ...recipe, ...settings, "--to", to], options);
const weights = (to: string, name = "model.safetensors"): string => readFileSync(join(folder, to, name)).toString("base64");

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-sft-"));
  const row = (i: number): object => ({ prompt: `Direct question: region ${i % 7}?\n`, output: [{ text: "<answer> Mars </answer>" }] });
  const rows = (count: number): string => Array.from({ length: count }, (_, i) => `${JSON.stringify(row(i))}\n`).join("");
  writeFileSync(join(folder, "pairs.jsonl"), rows(120));
  writeFileSync(join(folder, "held-out.jsonl"), rows(10));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("zerosearch sft", () => {
  it("learns what it is shown: the held-out loss falls, the tuned model is a policy, and its log tells each update", async () => {
    const { code, stdout, stderr } = await sft("tuned", ["sft.validation=held-out.jsonl", "sft.epochs=3"]);
    expect([code, stderr]).toEqual([0, ""]);
    const before = Number(/^validation loss before: ([\d.]+)$/m.exec(stdout)![1]);
    const rows = readRows(join(folder, "tuned.sft", "log.jsonl")) as { step: number; validationLoss?: number; learningRate: number }[];
    expect(rows.map(({ step }) => step)).toEqual(rows.map((_, i) => i + 1));
    expect(rows.at(-1)!.validationLoss).toBeLessThan(before / 4);
    expect(rows[0]!.learningRate).toBeCloseTo(1e-3, 6);
    expect(existsSync(join(folder, "tuned.sft", "states"))).toBe(false);
    const asked = await zerosearch([...["ask", "model.policy=tuned", "rollout.method=direct", "region 3?", "--json"], "device.kind=cpu"]);
    expect(JSON.parse(asked.stdout)).toMatchObject({ answer: "Mars" });
  });

  it("stopped by Ctrl-C or killed, goes on by the same command to the same bits, with each update once in the log", async () => {
    const settings = ["lora.rank=2", "sft.epochs=40"];
    const whole = await sft("whole", settings);
    expect(whole.code).toBe(0);
    for (const [signal, expected] of [
      ["SIGINT", 130],
      ["SIGKILL", null],
    ] as const) {
      const to = `after-${signal}`;
      // Where nothing else waits, a signal is seen all the same.
      const saving = signal === "SIGKILL" ? ["train.saveMinutes=0.002"] : ["train.saveMinutes=0"];
      let sent = false;
      const stopped = await sft(to, [...settings, ...saving], {
        onOutput(text, kill) {
          if (sent || !text.includes("tuning: tokens")) return;
          sent = true;
          setTimeout(() => kill(signal), 400);
        },
      });
      expect(stopped.code).toBe(expected);
      expect(existsSync(join(folder, to))).toBe(false);
      const other = await sft(to, [...settings, "sft.learningRate=1e-3"]);
      expect(other.stderr).toMatch(/was begun with other settings: sft.learningRate was 0.002, now 0.001\n.*--fresh/);
      const { code, stdout } = await sft(to, settings);
      expect([code, stdout]).toEqual([0, expect.stringMatching(/^Going on after update \d+ from after-/m)]);
      const lossAtTheEnd = (text: string): string | undefined => /loss at the end ([\d.]+),/.exec(text)?.[1];
      expect(lossAtTheEnd(whole.stdout)).toMatch(/^\d/);
      expect(lossAtTheEnd(stdout)).toBe(lossAtTheEnd(whole.stdout));
      expect(weights(to, "adapter_model.safetensors")).toBe(weights("whole", "adapter_model.safetensors"));
      expect(readRows(join(folder, `${to}.sft`, "log.jsonl"))).toEqual(readRows(join(folder, "whole.sft", "log.jsonl")));
    }
  });

  it.each([
    { settings: ["sft.data=nowhere.jsonl"], to: "x", says: "nowhere.jsonl: " },
    { settings: ["sft.data=null"], to: "x", says: "sft.data is missing; expected a file of examples" },
    { settings: ["sft.maxTokens=4"], to: "x", says: "sft.data: all examples are too long; expected at most 4 tokens" },
    { settings: [], to: "pairs.jsonl", says: "--to pairs.jsonl: is there already" },
    { settings: ["sft.epoch=2"], to: "x", says: "did you mean sft.epochs" },
    { settings: ["lora.rank=2", "lora.targets=q_prj"], to: "x", says: "did you mean q_proj?" },
  ])("says once what is wrong: $says", async ({ settings, to, says }) => {
    const { code, stderr } = await sft(to, settings);
    expect(code).toBe(1);
    expect(stderr).toContain(says);
    expect(stderr).not.toContain("    at ");
  });
});

/** Nobody who runs the quickstart may notice a change of the code: its receipt, kept in `test/witness/`, is reproduced bit for bit. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { buildIfStale, start } from "../helpers/program.ts";
import { hasQuickstart, root } from "../helpers/tiny-quickstart.ts";

it.skipIf(!hasQuickstart)("the quickstart ends in the bits of its witness, in every step, saved state and score", async () => {
  buildIfStale();
  const folder = mkdtempSync(join(tmpdir(), "zerosearch-witness-"));
  try {
    const places = [`output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`];
    const { code, stdout, stderr } = await start(process.execPath, [
      join(root, "bin", "zerosearch.js"),
      "reproduce",
      join(root, "test", "witness", "quickstart.json"),
      ...places,
    ]);
    const [last] = stdout.trimEnd().split("\n").slice(-1);
    expect([stderr, last, code]).toEqual(["", "the same: 24 of 24 steps, the weights of 6 saved states and the evaluation", 0]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

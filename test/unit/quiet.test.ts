/** What native code says while a driver is only tried is not shown. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import koffi from "koffi";
import { expect, it } from "vitest";
import { openQuietly } from "../../src/device/quiet.ts";

it.skipIf(process.platform === "win32")(
  "native code is not heard while it is called, and is heard before and after, also where it throws",
  async () => {
    const library = koffi.load(null);
    const dup = library.func("int dup(int)");
    const dup2 = library.func("int dup2(int, int)");
    const write = library.func("long write(int, const char*, size_t)");
    const native = (text: string): number => write(2, text, text.length);
    const quietly = await openQuietly();
    const folder = mkdtempSync(join(tmpdir(), "zerosearch-quiet-"));
    const stderr = openSync(join(folder, "stderr"), "w");
    const kept = dup(2);
    dup2(stderr, 2);
    try {
      native("before ");
      expect(quietly(() => native("driver "))).toBe(7);
      const fails = (): never => {
        native("driver ");
        throw new Error("no");
      };
      expect(() => quietly(fails)).toThrow("no");
      native("after");
    } finally {
      dup2(kept, 2);
      closeSync(kept);
      closeSync(stderr);
    }
    expect(readFileSync(join(folder, "stderr"), "utf8")).toBe("before after");
    rmSync(folder, { recursive: true });
  },
);

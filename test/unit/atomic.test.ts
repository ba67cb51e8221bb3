import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { listFiles, removeFolderAtomic, removeTemporary, writeFileAtomic, writeFolderAtomic } from "../../src/checkpoint/atomic.ts";
import { FileError } from "../../src/util/errors.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-atomic-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const systemError = (code: string) => Object.assign(new Error(`${code}: fake`), { code });

describe("writeFileAtomic", () => {
  it("replaces a file and leaves nothing else, making folders on the way", async () => {
    const file = join(folder, "a", "b.txt");
    await writeFileAtomic(file, "one");
    await writeFileAtomic(file, new Uint8Array([50]));
    expect(readFileSync(file, "utf8")).toBe("2");
    expect(readdirSync(join(folder, "a"))).toEqual(["b.txt"]);
  });

  it.skipIf(process.getuid?.() === 0)("says what to do where it may not write", async () => {
    chmodSync(folder, 0o500);
    await expect(writeFileAtomic(join(folder, "x"), "")).rejects.toThrow(/no permission to write\n {2}change the permissions/);
    chmodSync(folder, 0o700);
  });

  it("says what is wrong where a file stands in the folder's place", async () => {
    writeFileSync(join(folder, "f"), "");
    await expect(writeFileAtomic(join(folder, "f", "x"), "")).rejects.toThrow(FileError);
  });
});

describe("writeFolderAtomic", () => {
  it("replaces a folder as a whole, files in sub-folders included", async () => {
    const place = join(folder, "state");
    for (const text of ["one", "two"]) {
      await writeFolderAtomic(place, (temporary) => {
        mkdirSync(join(temporary, "inner"));
        writeFileSync(join(temporary, "inner", text), text);
        return Promise.resolve();
      });
    }
    expect(await listFiles(place)).toEqual(["inner/two"]);
    expect(readdirSync(folder)).toEqual(["state"]);
  });

  it.each(["ENOSPC", "EACCES", "EDQUOT", "EIO"])("leaves the old folder and nothing else when a write fails with %s", async (code) => {
    const place = join(folder, "state");
    await writeFolderAtomic(place, async (temporary) => {
      writeFileSync(join(temporary, "old"), "");
    });
    const failing = writeFolderAtomic(place, (temporary) => {
      writeFileSync(join(temporary, "new"), "");
      return Promise.reject(systemError(code));
    });
    await expect(failing).rejects.toThrow(FileError);
    await expect(failing).rejects.toThrow("nothing was changed");
    expect(await listFiles(folder)).toEqual(["state/old"]);
  });

  it("passes a fault of the writer on as it is", async () => {
    const fault = new TypeError("a bug");
    await expect(writeFolderAtomic(join(folder, "state"), () => Promise.reject(fault))).rejects.toBe(fault);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("removeTemporary", () => {
  it("deletes what killed writers left and nothing else", async () => {
    mkdirSync(join(folder, ".tmp-123-state"));
    writeFileSync(join(folder, ".tmp-9-file"), "");
    writeFileSync(join(folder, "kept"), "");
    expect((await removeTemporary(folder)).sort()).toEqual([".tmp-123-state", ".tmp-9-file"]);
    expect(readdirSync(folder)).toEqual(["kept"]);
    expect(await removeTemporary(join(folder, "none"))).toEqual([]);
  });

  it("brings back a folder that was moved aside for one that never came", async () => {
    mkdirSync(join(folder, ".tmp-old-state"));
    writeFileSync(join(folder, ".tmp-old-state", "f"), "old");
    await removeTemporary(folder);
    expect(readFileSync(join(folder, "state", "f"), "utf8")).toBe("old");
  });
});

describe("removeFolderAtomic", () => {
  it("deletes a folder", async () => {
    mkdirSync(join(folder, "state"));
    await removeFolderAtomic(join(folder, "state"));
    expect(existsSync(join(folder, "state"))).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });
});

/** A repository cloned without git-lfs has a few lines of text where its weights should be. */
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { sizeOf } from "./cache.ts";

const BEGINNING = "version https://git-lfs.github.com/spec/";

/** The weight files of a folder that are only pointers of git-lfs. */
export async function lfsPointers(folder: string): Promise<string[]> {
  const pointers: string[] = [];
  for (const name of (await readdir(folder)).sort()) {
    // A pointer has about 130 bytes; weights are not read.
    if (name.endsWith(".safetensors") && ((await sizeOf(join(folder, name))) ?? Infinity) < 1024 && (await isPointer(join(folder, name))))
      pointers.push(name);
  }
  return pointers;
}

async function isPointer(file: string): Promise<boolean> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(BEGINNING.length), 0, BEGINNING.length, 0);
    return buffer.toString("latin1", 0, bytesRead) === BEGINNING;
  } finally {
    await handle.close();
  }
}

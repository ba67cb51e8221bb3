/** What native code says on stderr while it is called, kept off the terminal. */
import { closeSync, openSync } from "node:fs";
import { devNull } from "node:os";

/** Calls something, and lets none of the lines through that native code writes to stderr before it returns. */
export type Quietly = <T>(call: () => T) => T;

export const loudly: Quietly = (call) => call();

/** Points the file descriptor itself elsewhere, since no stream of Node's is asked; where the system's C library cannot be had, nothing is hidden. */
export async function openQuietly(): Promise<Quietly> {
  // Windows: Node has a C library of its own, whose descriptors nobody outside can reach.
  if (process.platform === "win32") return loudly;
  let dup: (from: number) => number;
  let dup2: (from: number, to: number) => number;
  try {
    const { default: koffi } = await import("koffi");
    const library = koffi.load(null);
    dup = library.func("int dup(int)");
    dup2 = library.func("int dup2(int, int)");
  } catch {
    return loudly;
  }
  return (call) => {
    const kept = dup(2);
    if (kept < 0) return call();
    const nowhere = openSync(devNull, "w");
    dup2(nowhere, 2);
    closeSync(nowhere);
    try {
      return call();
    } finally {
      dup2(kept, 2);
      closeSync(kept);
    }
  };
}

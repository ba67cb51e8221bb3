/** What a program writes is its own while it runs. */
import { join } from "node:path";
import { makeFolder, writeFault } from "../checkpoint/atomic.ts";
import { lockTimes, takeLock } from "../checkpoint/lock.ts";
import type { Closing } from "../setup/closing.ts";
import { FileError } from "../util/errors.ts";

/** Makes a folder and holds it. `what` was not done, where it cannot be. @throws FileError where it cannot be made, or another program has it */
export async function holdFolder(folder: string, what: string, closing: Closing, signal: AbortSignal): Promise<void> {
  await orFault(`--out ${folder}`, what, async () => {
    await makeFolder(folder);
    await hold(`--out ${folder}`, join(folder, "lock"), closing, signal);
  });
}

/** Holds a file, by another beside it. @throws as `holdFolder` */
export async function holdFile(where: string, file: string, what: string, closing: Closing, signal: AbortSignal): Promise<void> {
  await orFault(where, what, () => hold(where, `${file}.lock`, closing, signal));
}

async function hold(where: string, file: string, closing: Closing, signal: AbortSignal): Promise<void> {
  const refuse = ({ pid }: { readonly pid: number | null }): FileError =>
    new FileError({ where, what: `process ${pid ?? "of another machine"} is writing it`, hint: "Stop that one first." });
  const lock = await takeLock(file, { times: { ...lockTimes, ended: 0 }, signal, refuse });
  closing.add(lock, (one) => one.close());
}

async function orFault(where: string, what: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (cause) {
    if (cause instanceof FileError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === undefined) throw cause;
    const [fault, hint] = writeFault(code, message);
    throw new FileError({ where, what: fault, hint: `${hint}; ${what}` }, { cause });
  }
}

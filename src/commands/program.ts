/** What the commands share: their help, what they say, and a stop by Ctrl-C that is no error. */
import { argumentsHelp, parseArguments, type ArgumentSpec } from "../config/arguments.ts";

/** A command's arguments; null where help was asked for, which is printed, `more` after it. */
export function readArguments(argv: readonly string[], spec: ArgumentSpec, more = ""): ReturnType<typeof parseArguments> | null {
  const read = parseArguments(argv, spec);
  if (!read.options.has("help")) return read;
  process.stdout.write(`${argumentsHelp(spec)}${more}`);
  return null;
}

/** Does `work`, whose signal Ctrl-C fires; what it throws then is no error: the exit code is 130, and `note` is said. */
export async function untilInterrupted(work: (signal: AbortSignal) => Promise<void>, note = ""): Promise<void> {
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort(new Error("interrupted"));
  process.once("SIGINT", onSignal);
  try {
    await work(interrupt.signal);
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    process.stderr.write(note);
    process.exitCode = 130;
  } finally {
    process.off("SIGINT", onSignal);
  }
}

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** What the commands share: their help, what they say, and ends that are not their own: by Ctrl-C, or because nothing is left to do. */
import { argumentsHelp, parseArguments, type ArgumentSpec } from "../config/arguments.ts";
import { packagedConfig } from "../config/index.ts";
import { giveUpOne } from "../util/own-code.ts";

/** A command's arguments; null where help was asked for, which is printed, `more` after it. */
export function readArguments(argv: readonly string[], spec: ArgumentSpec, more = ""): ReturnType<typeof parseArguments> | null {
  const read = parseArguments(argv, spec);
  if (!read.options.has("help")) return read;
  process.stdout.write(`${argumentsHelp(spec)}${more}`);
  return null;
}

export interface InterruptOptions {
  /** What the signal is of; a new one unless given. */
  readonly interrupt?: AbortController;
  /** Called when the signal fires. */
  readonly onStop?: () => void;
  /** Done after work that the signal ended. */
  readonly leave?: () => unknown;
}

/**
 * Does `work`, whose signal Ctrl-C fires; a second one ends the program at once. That it is ended by the signal is no error: the exit code
 * is 130.
 * @throws any other error of `work`
 */
export async function untilInterrupted(
  work: (signal: AbortSignal) => Promise<void>,
  { interrupt = new AbortController(), onStop, leave }: InterruptOptions = {},
): Promise<void> {
  const reason = new Error("interrupted");
  const onSignal = (): void => {
    if (interrupt.signal.aborted) process.exit(130);
    onStop?.();
    interrupt.abort(reason);
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    await work(interrupt.signal);
  } catch (error) {
    let cause = error;
    while (cause !== reason && cause instanceof Error) cause = cause.cause;
    if (cause !== reason) throw error;
    await leave?.();
    process.exitCode = 130;
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

/**
 * Does `work`. Where nothing is left to do before it has ended, the user's code that it waits for is given up, which makes it fail; Node
 * would end the program without a word.
 */
export async function untilIdle(work: () => Promise<void>): Promise<void> {
  const onIdle = (): void => {
    // The next event is the next look: one call after the other is given up.
    if (giveUpOne()) setImmediate(() => undefined);
    else {
      process.stderr.write("zerosearch: what the program waits for can no longer happen\n");
      process.exitCode = 1;
    }
  };
  process.on("beforeExit", onIdle);
  try {
    await work();
  } finally {
    process.off("beforeExit", onIdle);
  }
}

/** Says which configuration is the base of settings, where no file was named. */
export function sayBase(options: ReadonlyMap<string, string>): void {
  if (!options.has("config")) say(`configuration: ${packagedConfig("quickstart")}, as no --config is given`);
}

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

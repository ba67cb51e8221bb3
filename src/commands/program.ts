/** What the commands share: their help, what they say, and ends that are not their own: by a stop from outside, or because nothing is left to do. */
import { argumentsHelp, parseArguments, type ArgumentSpec } from "../config/arguments.ts";
import { packagedConfig, readOverride, readYaml, type Source } from "../config/index.ts";
import { giveUpOne } from "../util/own-code.ts";
import { listenForStops, stopOf, tellEnd, type Stops } from "./stops.ts";

/** A command's arguments; null where help was asked for, which is printed, `more` after it. */
export function readArguments(argv: readonly string[], spec: ArgumentSpec, more = ""): ReturnType<typeof parseArguments> | null {
  const read = parseArguments(argv, spec);
  if (!read.options.has("help")) return read;
  process.stdout.write(`${argumentsHelp(spec)}${more}`);
  return null;
}

/** What a command is configured by: its file, then its settings, then `--device`. */
export function givenSources({ options, settings }: ReturnType<typeof parseArguments>): Source[] {
  const [file, device] = [options.get("config"), options.get("device")];
  const overrides = [...settings, ...(device === undefined ? [] : [`device.kind=${device}`])];
  return [...(file === undefined ? [] : readYaml(file)), ...overrides.map(readOverride)];
}

/**
 * Does `work`, which a stop from outside ends; `leave` is then done. That it is ended so is no error, and the exit code is the stop's.
 * @throws any other error of `work`
 */
export async function untilInterrupted(
  work: (signal: AbortSignal) => Promise<void>,
  { stops = listenForStops(), leave }: { readonly stops?: Stops; readonly leave?: () => unknown } = {},
): Promise<void> {
  try {
    await work(stops.signal);
  } catch (error) {
    if (stopOf(error) === null) throw error;
    await leave?.();
    tellEnd(error);
  } finally {
    stops.close();
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

/** What can be done where `search.budget` ends, of a program that begins anew each time. */
export const budgetHint =
  "The same command begins anew with a larger search.budget. With search.record=FILE search.replay=FILE every search is kept, and the next time only those that are missing are paid.";

/** How a program goes on that keeps what it has done. */
export const sameCommand = "give the same command again, which goes on where this one stopped";

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** What ends a program from outside: Ctrl-C, a kill, a terminal that is gone, a reader that is gone. */
import { ZeroSearchError } from "../util/errors.ts";
import { strayError } from "../util/own-code.ts";

/** Exit codes as a shell gives them: 128 and the signal's number. */
const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129, SIGPIPE: 141, unwritable: 1 } as const;
const outputFaults: Readonly<Record<string, string>> = {
  SIGPIPE: "standard output was closed",
  unwritable: "standard output cannot be written",
};

/** Why a program was asked to stop. */
export class Stopped extends Error {
  readonly exitCode: number;
  constructor(name: keyof typeof exitCodes) {
    super(outputFaults[name] ?? `stopped by ${name}`);
    this.name = "Stopped";
    this.exitCode = exitCodes[name];
  }
}

/** Listens for what ends this program, until it is closed. */
export interface Stops {
  /** Fires with a `Stopped`, or with the error of code that nobody waited for. */
  readonly signal: AbortSignal;
  close(): void;
}

/** Milliseconds after a stop in which the program ends by itself. */
const patience = 2000;

/** Only the newest listener is told. */
const listeners: ((name: keyof typeof exitCodes) => void)[] = [];

/**
 * The first of them fires the signal, after `onFirst`; Ctrl-C or a kill after that ends the program at once. (What nohup asks for is lost: Node takes
 * back that a signal is ignored. `setsid` and `tmux` keep a program.)
 */
export function listenForStops(onFirst: () => void = () => undefined): Stops {
  const stop = new AbortController();
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const onStop = (name: keyof typeof exitCodes): void => {
    if (!stop.signal.aborted) {
      onFirst();
      stop.abort(new Stopped(name));
    } else if (name === "SIGINT" || name === "SIGTERM") process.exit(exitCodes[name]);
  };
  const onStray = (error: unknown): void => {
    // Where the program ends already, what is saved is not given up for it.
    if (stop.signal.aborted) process.stderr.write(`${strayError(error).message}\n`);
    else stop.abort(strayError(error));
  };
  for (const name of names) process.on(name, onStop);
  process.on("uncaughtException", onStray);
  listeners.push(onStop);
  return {
    signal: stop.signal,
    close() {
      for (const name of names) process.off(name, onStop);
      process.off("uncaughtException", onStray);
      // What was given up, such as an engine that never answers, may still hold a timer or a socket.
      if (stop.signal.aborted) setTimeout(() => process.exit(), patience).unref();
      listeners.splice(listeners.indexOf(onStop), 1);
    },
  };
}

/** Whether the reader of standard output is gone; what is left to say then goes to standard error. */
let outputClosed = false;

/**
 * From now on a standard output that nobody reads any more (`| head`, a `tee` that was killed), or that has no room (a log on a full disk), ends the
 * program as a signal would, without a stack, and what nobody can read on a terminal that is gone is dropped.
 */
export function watchOutput(): void {
  const onError = (error: NodeJS.ErrnoException): void => {
    if (outputClosed) return;
    outputClosed = true;
    const name = ["EPIPE", "EIO", "ERR_STREAM_DESTROYED"].includes(error.code ?? "") ? "SIGPIPE" : "unwritable";
    if (name === "unwritable") process.stderr.write(`zerosearch: standard output cannot be written: ${error.message}\n`);
    const listener = listeners.at(-1);
    if (listener === undefined) process.exit(exitCodes[name]);
    listener(name);
  };
  process.stdout.on("error", onError);
  // There is nowhere left to say it.
  process.stderr.on("error", () => undefined);
}

/** The stop that an error comes from; null where it comes from none. */
export function stopOf(error: unknown): Stopped | null {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof Stopped) return cause;
  return null;
}

/**
 * Says why a program ended before its time, and sets the exit code. A mistake of the user, or of what he gave, is told without a stack; any other error
 * is a fault of this program and keeps its stack; a stop that was asked for is none.
 */
export function tellEnd(error: unknown): void {
  const stop = stopOf(error);
  if (stop === null) process.stderr.write(`${describeFault(error)}\n`);
  process.exitCode = stop?.exitCode ?? 1;
}

function describeFault(error: unknown): string {
  if (error instanceof ZeroSearchError) return error.message;
  if (error instanceof Error && "syscall" in error && error.syscall === "uv_cwd")
    return "zerosearch: the working directory was deleted; go to another one";
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** The last words: on standard output, else on standard error. */
export function lastWords(text: string): void {
  (outputClosed ? process.stderr : process.stdout).write(text);
}

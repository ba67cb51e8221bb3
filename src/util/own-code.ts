/** Calls of code that is not ours: what it throws, and what it never answers, becomes one error that says whose it is. */
import { abortReason } from "./abort.ts";
import { ConfigError, ZeroSearchError, type Complaint } from "./errors.ts";

export interface OwnCall {
  /** Once it has fired, what is thrown is thrown as it is. */
  readonly signal?: AbortSignal | undefined;
  /** What is wrong where it throws: "fails" unless given. */
  readonly what?: string;
  /** ConfigError unless given. */
  readonly Kind?: new (complaint: Complaint, options?: { cause?: unknown }) => ZeroSearchError;
}

/** What gives up each call under way, in the order in which they began. */
const underWay = new Set<() => void>();

/**
 * Calls code of the user's.
 * @param where - whose it is: `reward thrifty of rollout 1/0/2`
 * @throws errors of ours as they are; anything else as one of `Kind` with it as cause, and the lines of the user's code that it came through.
 */
export async function callOwn<T>(
  where: string,
  call: () => T | Promise<T>,
  { signal, what = "fails", Kind = ConfigError }: OwnCall = {},
): Promise<T> {
  let giveUp = (): void => undefined;
  let stop = (): void => undefined;
  const never = new Promise<never>((_, reject) => {
    giveUp = () => {
      const never = what === "fails" ? "never answers" : what;
      reject(new Kind({ where, what: `${never}: nothing is left to do that could settle its promise` }));
    };
    stop = () => {
      reject(abortReason(signal as AbortSignal));
    };
  });
  // The call may throw before anybody waits for this one.
  never.catch(() => undefined);
  underWay.add(giveUp);
  if (signal?.aborted === true) stop();
  else signal?.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([call(), never]);
  } catch (cause) {
    if (cause instanceof ZeroSearchError || signal?.aborted === true) throw cause;
    throw new Kind({ where, what: `${what}: ${thrown(cause)}`, hint: linesOf(cause) }, { cause });
  } finally {
    underWay.delete(giveUp);
    signal?.removeEventListener("abort", stop);
  }
}

/** What is thrown outside of every call, by a timer or in a promise that nobody waits for: most likely by code of the user's. */
export function strayError(cause: unknown): ZeroSearchError {
  const what = `code that nobody waits for fails: ${thrown(cause)}`;
  return new ZeroSearchError({ where: "zerosearch", what, hint: linesOf(cause) }, { cause });
}

/** Gives up the call that began last, as no other waits inside it. False where none is under way. */
export function giveUpOne(): boolean {
  const last = [...underWay].at(-1);
  last?.();
  return last !== undefined;
}

/** What a value is, for people: `an object with run, name`. */
export function kindOf(value: unknown): string {
  if (isClass(value)) return `the class ${value.name}, not an object of it`;
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return "a list";
  if (typeof value !== "object" || value === null) return typeof value === "string" ? JSON.stringify(value.slice(0, 80)) : String(value);
  const names = Object.keys(value);
  return names.length === 0 ? "an object without fields" : `an object with ${names.slice(0, 8).join(", ")}`;
}

export function isClass(value: unknown): value is new () => unknown {
  return typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));
}

function thrown(cause: unknown): string {
  return cause instanceof Error ? cause.message || cause.name : `it throws ${kindOf(cause)}, which is no Error`;
}

/** Of an error's stack, what is not ours or Node's; all of it where the fault is ours. */
function linesOf(cause: unknown): string | undefined {
  const lines = cause instanceof Error ? (cause.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)) : [];
  const ours = new URL("../", import.meta.url).pathname;
  const own = lines.filter((line) => !line.includes(ours) && !line.includes("node:") && !line.includes("<anonymous>"));
  const shown = own.length > 0 ? own.slice(0, 3) : lines[0]?.includes(ours) === true ? lines : [];
  return shown.length === 0 ? undefined : shown.map((line) => line.trim()).join("\n  ");
}

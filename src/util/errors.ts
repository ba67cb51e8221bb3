/**
 * One wording for one kind of mistake: `<where>: <what is wrong>; expected <X>, got <Y>`, then a hint on a line of its own.
 */

/** What a message is made of. `expected` and `got` are left out where there is nothing to compare. */
export interface Complaint {
  /** The door at which the mistake was seen: a public function, a file, a config key. */
  readonly where: string;
  readonly what: string;
  readonly expected?: string | undefined;
  readonly got?: string | undefined;
  /** What the reader can do about it. */
  readonly hint?: string | undefined;
}

/** The base of every error this project throws on purpose; programs print its message without a stack. */
export class ZeroSearchError extends Error {
  readonly complaint: Complaint;
  constructor(complaint: Complaint, options?: { cause?: unknown }) {
    super(describe(complaint), options);
    this.name = new.target.name;
    this.complaint = complaint;
  }
}

/** Shapes or lengths of tensors do not fit. */
export class ShapeError extends ZeroSearchError {}
/** A configuration key or value is wrong. */
export class ConfigError extends ZeroSearchError {}
/** A file is missing, truncated or malformed. */
export class FileError extends ZeroSearchError {}
/** A device cannot be had, was lost, or ran out of memory. */
export class DeviceError extends ZeroSearchError {}
/** A data row is wrong. */
export class DataError extends ZeroSearchError {}
/** A request does not fit: no room in the context, an empty prompt. */
export class RequestError extends ZeroSearchError {}
/** A request is too long for a server's model: the same one never fits. */
export class TooLongError extends RequestError {}
/** A server cannot be reached, refuses, or answers with something else than it should. */
export class ServerError extends ZeroSearchError {}

function describe({ where, what, expected, got, hint }: Complaint): string {
  let text = `${where}: ${what}`;
  if (expected !== undefined) text += `; expected ${expected}`;
  if (got !== undefined) text += expected === undefined ? `; got ${got}` : `, got ${got}`;
  if (hint !== undefined) text += `\n  ${hint}`;
  return text;
}

/** A value from outside, for a message: at most 80 characters. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number") return String(value);
  // JSON has no functions, nor what is nested deeper than the stack.
  const text = attempt<string | undefined>(() => JSON.stringify(value), undefined) ?? `a value of type ${typeof value}`;
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** What `action` returns; `otherwise` where it throws. */
export function attempt<T>(action: () => T, otherwise: T): T {
  try {
    return action();
  } catch {
    return otherwise;
  }
}

/** Counts in messages for people: 1 passage, 2 passages. */

/** The word for so many. @param many - where it is not `one` with an s */
export function plural(count: number, one: string, many = `${one}s`): string {
  return count === 1 ? one : many;
}

/** `12,345 passages` */
export function counted(count: number, one: string, many?: string): string {
  return `${Math.round(count).toLocaleString("en-US")} ${plural(count, one, many)}`;
}

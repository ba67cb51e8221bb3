// How many threads share the work, where it matters how it is cut. Every thread has its own module instance, and is told the same number.

export let threads: i32 = 1;

/** From now on so many threads take items. */
export function useThreads(count: i32): void { threads = count; }

/** Lets timers, input and those who wait for results have their turn. */
export function nextTask(): Promise<void> {
  if (typeof setImmediate !== "function") return nextMessage(); // a browser's timers may wait 4 ms; a message does not
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Resolves when a message to oneself has come: as input does, before those who have let others have their turn go on. */
export function nextMessage(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    (port1 as { onmessage?: () => void }).onmessage = (): void => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

import { expect } from "vitest";

/** The message of the error that a promise is rejected with; a failure where it is not. */
export async function messageOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return (error as Error).message;
}

/** The error that `work` throws or is rejected with; a failure where it is not one. */
export async function errorOf(work: () => unknown): Promise<Error> {
  const error: unknown = await Promise.resolve()
    .then(work)
    .then(
      () => null,
      (reason: unknown) => reason,
    );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

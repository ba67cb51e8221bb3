/** A program in a process of its own, for what a driver may crash or hang. */
import { execFile } from "node:child_process";

export interface ApartOptions {
  /** Environment: this process's by default. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Milliseconds after which it is taken to hang, and killed. */
  readonly timeout: number;
}

export interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  /** How it ended, as a clause. */
  readonly end: string;
}

/** Runs a program to its end. Never throws. */
export function runApart([command = "", ...args]: readonly string[], { env = process.env, timeout }: ApartOptions): Promise<Ended> {
  // what NODE_OPTIONS asks for, a debugger say, is meant for this process
  const options = { env: { ...env, NODE_OPTIONS: "" }, timeout, killSignal: "SIGKILL", maxBuffer: Infinity, windowsHide: true } as const;
  return new Promise((resolve) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      const { code = 0, killed = false, signal = null, message } = error ?? { message: "" };
      let end = typeof code === "string" ? `could not be started (${message})` : `ended with code ${code ?? "unknown"}`;
      if (typeof signal === "string") end = killed ? `had not ended after ${timeout / 1000} s` : `crashed (${signal})`;
      resolve({ stdout, stderr, end });
    });
  });
}

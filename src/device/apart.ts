/** A program in a process of its own, for what a driver may crash or hang. */
import { spawn } from "node:child_process";

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
  return new Promise((resolve) => {
    let stdout = "";
    let stderr = "";
    let hangs = false;
    const finish = (end: string): void => {
      clearTimeout(timer);
      resolve({ stdout, stderr, end });
    };
    // what NODE_OPTIONS asks for, a debugger say, is meant for this process
    const child = spawn(command, args, { env: { ...env, NODE_OPTIONS: "" }, stdio: ["ignore", "pipe", "pipe"], windowsHide: true });
    const timer = setTimeout(() => {
      hangs = true;
      child.kill("SIGKILL");
    }, timeout);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", (error) => {
      finish(`could not be started (${error.message})`);
    });
    child.on("close", (code, signal) => {
      if (hangs) finish(`had not ended after ${timeout / 1000} s`);
      else finish(signal === null ? `ended with code ${code ?? "unknown"}` : `crashed (${signal})`);
    });
  });
}

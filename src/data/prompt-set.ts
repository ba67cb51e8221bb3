/** What models are told: sets of prompts, `configs/prompts/<name>.yaml`, and texts of the user's own. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parse } from "yaml";
import { FileError } from "../util/errors.ts";
import { isTextFile } from "../util/fields.ts";

export interface PromptSet {
  /** By the dialects' names. */
  readonly policy: Readonly<Record<string, string>>;
  readonly simulator: string;
  /** Of a text file: all of it, in any dialect. */
  readonly text?: string;
}

/** A set by its name, or a text file in its place. @throws FileError where there is no such file, or it is no text. */
export function promptSet(name: string): PromptSet {
  if (!isTextFile(name)) return parse(readFileSync(new URL(`../../configs/prompts/${name}.yaml`, import.meta.url), "utf8")) as PromptSet;
  const text = readText(name);
  return { policy: {}, simulator: text, text };
}

function readText(file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new FileError(
      {
        where: file,
        what: missing ? "there is no such prompt" : `cannot be read as a prompt: ${(cause as Error).message}`,
        expected: "a text in UTF-8",
        ...(missing ? { got: resolve(file), hint: "Paths are relative to the working directory." } : {}),
      },
      { cause },
    );
  }
}

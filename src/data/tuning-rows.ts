/** Rows to fine-tune on, from files: conversations, or prompts and outputs, as published sets have them. */
import { DataError, show } from "../util/errors.ts";
import { filesOf } from "./data-files.ts";
import { readRows } from "./rows.ts";

/** A message of a conversation. */
interface Message {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

/** A row, as `TuningRow` of fine-tuning, and where it stands. */
export interface ReadTuningRow {
  readonly where: string;
  readonly row:
    | { readonly messages: readonly Message[] }
    | {
        readonly system?: string;
        readonly prompt: string;
        readonly output: readonly { readonly text: string; readonly weight: number }[];
      };
}

const expected =
  "{messages: [{role, content}, ...]}, or {prompt, output} and perhaps a system message, where output is a text, or a list of {text, weight} with weight 0 for what the model is given";
/** Names that published sets have for one thing. */
const outputs = ["output", "completion", "response"] as const;
const speakers: Readonly<Record<string, Message["role"]>> = {
  system: "system",
  user: "user",
  human: "user",
  assistant: "assistant",
  gpt: "assistant",
  tool: "tool",
};

/** @throws FileError where a file cannot be read; DataError, with the line, for the first row that is none, and where there are no rows. */
export async function loadTuningRows(source: string | readonly string[]): Promise<ReadTuningRow[]> {
  const rows: ReadTuningRow[] = [];
  for (const file of filesOf(source)) {
    const before = rows.length;
    for await (const { value, where } of readRows(file, { what: "file of examples" })) rows.push({ where, row: readRow(value, where) });
    if (rows.length === before)
      throw new DataError({ where: file, what: "the file of examples is empty", expected: "at least one row", got: "none" });
  }
  return rows;
}

function readRow(value: unknown, where: string): ReadTuningRow["row"] {
  const row = (typeof value === "object" && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  const wrong = (what: string, got: unknown): DataError => new DataError({ where, what, expected, got: show(got) });
  const { prompt } = row;
  const name = outputs.find((one) => Object.hasOwn(row, one));
  const output = name === undefined ? undefined : row[name];
  const list =
    row["messages"] ??
    row["conversations"] ??
    (Array.isArray(prompt) && Array.isArray(output) ? [...(prompt as unknown[]), ...(output as unknown[])] : undefined);
  if (list !== undefined) {
    if (!Array.isArray(list)) throw wrong("its messages are no list", list);
    const messages = list.map((one: unknown, i) =>
      readMessage(one, () => wrong(`message ${i + 1} has no role or no content that is known`, one)),
    );
    if (!messages.some(({ role }) => role === "assistant")) throw wrong("there is no message of the assistant to learn from", list);
    return { messages };
  }
  if (typeof prompt !== "string") throw wrong("there is neither a conversation nor a prompt", value);
  const segments = typeof output === "string" ? [{ text: output, weight: 1 }] : Array.isArray(output) ? output.map(readSegment) : [];
  if (segments.some((one) => one === null)) throw wrong("its output is no text, or a weight in it no number from 0", output);
  const read = segments as { text: string; weight: number }[];
  if (!read.some(({ text, weight }) => text !== "" && weight > 0)) throw wrong("there is nothing to learn in its output", output);
  const { system } = row;
  if (system !== undefined && system !== null && typeof system !== "string") throw wrong("its system message is no text", system);
  return { ...(typeof system === "string" ? { system } : {}), prompt, output: read };
}

function readMessage(value: unknown, fault: () => DataError): Message {
  const one = (value ?? {}) as { role?: unknown; from?: unknown; content?: unknown; value?: unknown };
  const role = speakers[String(one.role ?? one.from)];
  const content = textOf(one.content ?? one.value);
  if (role === undefined || content === null) throw fault();
  return { role, content };
}

/** A text, or a list of parts that are texts. */
function textOf(content: unknown): string | null {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return null;
  const texts = content.map((part: unknown) => (part as { text?: unknown } | null)?.text);
  return texts.every((text) => typeof text === "string") ? texts.join("") : null;
}

function readSegment(value: unknown): { text: string; weight: number } | null {
  const { text, weight = 1 } = (value ?? {}) as { text?: unknown; weight?: unknown };
  return typeof text === "string" && typeof weight === "number" && weight >= 0 && Number.isFinite(weight) ? { text, weight } : null;
}

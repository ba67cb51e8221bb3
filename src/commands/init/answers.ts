/** What `zerosearch init` needs to know: taken from options, or asked on a terminal. */
import { createInterface } from "node:readline/promises";
import { parseHubId } from "../../hub/source.ts";
import { existsSync, statSync } from "node:fs";
import type { Arguments, ArgumentSpec } from "../../config/index.ts";
import { ConfigError, ZeroSearchError } from "../../util/errors.ts";

export type Answers = Readonly<Record<(typeof fields)[number]["name"], string>>;

interface Field {
  /** Of the option, and of the answer. */
  readonly name: string;
  readonly value: string;
  readonly doc: string;
  readonly question: string;
  readonly fallback: string;
  /** What is wrong with an answer; undefined where nothing is. */
  readonly wrong: (answer: string) => { readonly expected: string } | undefined;
}

const isFile = (path: string): boolean => existsSync(path) && statSync(path).isFile();
const isModel = (text: string): boolean => existsSync(text) || parseHubId(text) !== null;
/** Whether an answer is the address of a server. */
export const isUrl = (text: string): boolean => /^https?:\/\//.test(text);

const fields = [
  {
    name: "questions",
    value: "FILE",
    doc: "Your questions, {question, golden_answers} a line: they are shared out for training, validation and test. Without it, examples to replace.",
    question: "Your questions, a file of rows {question, golden_answers} (empty: examples to replace)",
    fallback: "",
    wrong: (answer) => (answer === "" || isFile(answer) ? undefined : { expected: "a file" }),
  },
  {
    name: "corpus",
    value: "FILE",
    doc: "The passages that answer them, {id, text} a line: the trained policy is judged by searching these. Without it, examples to replace.",
    question: "The passages that answer them, a file of rows {id, text} (empty: none)",
    fallback: "",
    wrong: (answer) => (answer === "" || isFile(answer) ? undefined : { expected: "a file" }),
  },
  {
    name: "model",
    value: "MODEL",
    doc: "The model that learns: a Hub id or a folder (Qwen/Qwen2.5-0.5B-Instruct).",
    question: "The model that learns, a Hub id or a folder",
    fallback: "Qwen/Qwen2.5-0.5B-Instruct",
    wrong: (answer) => (isModel(answer) ? undefined : { expected: "a folder, or a Hub id such as Qwen/Qwen2.5-0.5B-Instruct" }),
  },
  {
    name: "simulator",
    value: "WHO",
    doc: "What plays the search engine in training: same (the model that learns, prompted), another model, or http://... of an OpenAI-compatible server (same).",
    question: "What plays the search engine in training: same (that model, prompted), another model, or http://... of a server",
    fallback: "same",
    wrong: (answer) =>
      answer === "same" || isUrl(answer) || isModel(answer)
        ? undefined
        : { expected: "same, a folder or Hub id, or a URL of http or https" },
  },
  {
    name: "gpu-memory",
    value: "GIB",
    doc: "Memory of the GPU in GiB, for which the run is planned; 0 without a GPU (8).",
    question: "Memory of the GPU in GiB (0: there is none)",
    fallback: "8",
    wrong: (answer) => (answer !== "" && Number(answer) >= 0 && Number(answer) < 1e6 ? undefined : { expected: "a number from 0" }),
  },
] as const satisfies readonly Field[];

/** The options of the command, but for the folder. */
export const answerOptions: ArgumentSpec["options"] = Object.fromEntries(fields.map(({ name, value, doc }) => [name, { value, doc }]));

/** Streams to ask on. */
export interface Terminal {
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly output: NodeJS.WritableStream;
}

/** A person left before the last question. */
export class Left extends ZeroSearchError {}

/**
 * Takes what options give, and asks for the rest, again where an answer is wrong; `--yes` takes the defaults.
 * @throws ConfigError for a wrong option, and where there is nobody to ask; `Left`
 */
export async function findAnswers({ options }: Pick<Arguments, "options">, terminal: Terminal): Promise<Answers> {
  const given = new Map<string, string>();
  for (const { name, wrong } of fields) {
    const value = options.get(name);
    if (value === undefined) continue;
    const problem = wrong(value);
    if (problem !== undefined) throw new ConfigError({ where: `--${name}`, what: "wrong value", ...problem, got: JSON.stringify(value) });
    given.set(name, value);
  }
  if (!options.has("yes") && given.size < fields.length) {
    if (terminal.input.isTTY !== true)
      throw new ConfigError({
        where: "zerosearch init",
        what: "there is no terminal to ask on",
        expected: "--yes, for the defaults of what is not given",
        hint: "zerosearch init --help lists the options.",
      });
    await askFor(
      fields.filter(({ name }) => !given.has(name)),
      terminal,
      given,
    );
  }
  return Object.fromEntries(fields.map(({ name, fallback }) => [name, given.get(name) ?? fallback])) as Answers;
}

async function askFor(missing: readonly Field[], { input, output }: Terminal, answers: Map<string, string>): Promise<void> {
  const lines = createInterface({ input, output });
  const left = new Promise<never>((_, reject) => {
    lines.once("close", () => reject(new Left({ where: "zerosearch init", what: "no answer came, so nothing was written" })));
  });
  left.catch(() => {}); // also where nobody waits for it
  try {
    for (const { name, question, fallback, wrong } of missing) {
      for (;;) {
        const shown = fallback === "" ? "" : ` [${fallback}]`;
        const answer = (await Promise.race([lines.question(`${question}${shown}: `), left])).trim() || fallback;
        const problem = wrong(answer);
        if (problem === undefined) {
          answers.set(name, answer);
          break;
        }
        output.write(`  ${answer} is not that; expected ${problem.expected}\n`);
      }
    }
  } finally {
    lines.close();
  }
}

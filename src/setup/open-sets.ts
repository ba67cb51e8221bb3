/** The question sets that `--sets` names: found in a folder, in `data.test`, on the Hub or in files of one's own; read, checked and cut. */
import { existsSync } from "node:fs";
import type { Config } from "../config/index.ts";
import { nearest } from "../util/nearest.ts";
import { filesOf } from "../data/data-files.ts";
import { findSetFile, hubAddress, namedSet, paperAddress, rowsKept, setNames, type NamedSet } from "../data/named-sets.ts";
import { loadQuestions } from "../data/questions.ts";
import { isHubAddress, type LocateFileOptions } from "../hub/find-data-file.ts";
import type { Question } from "../rl/trajectory.ts";
import { ConfigError, DataError, FileError } from "../util/errors.ts";
import { findFileShown } from "./download-progress.ts";

export const subsets = ["paper", "paper-dropped"] as const;
export type Subset = (typeof subsets)[number];

/** One set, whose questions have its name as `dataSource`. */
export interface OpenedSet {
  readonly name: string;
  readonly title: string;
  readonly group: NamedSet["group"] | null;
  readonly questions: readonly Question[];
  /** The file, or the address on the Hub with its commit. */
  readonly source: string;
}

export interface OpenSetsOptions {
  readonly subset: Subset | null;
  /** The first so many questions of each; null takes all. */
  readonly limit: number | null;
  /** Told what is taken, a line each. */
  readonly say: (text: string) => void;
  readonly signal?: AbortSignal | undefined;
  /** Of the Hub's settings; the process's own unless given. */
  readonly env?: LocateFileOptions["env"];
}

/**
 * @param names - with commas between: names of the table, data sources of `data.test`, or `name=file`
 * @throws ConfigError for a name that nobody knows, FileError and DataError for files that are missing or wrong, or hold another set
 */
export async function openSets(names: string, config: Config, options: OpenSetsOptions): Promise<OpenedSet[]> {
  const finder = new SetFinder(config, options);
  const sets: OpenedSet[] = [];
  for (const given of names.split(",").map((name) => name.trim())) {
    if (given === "") throw new ConfigError({ where: `--sets ${names}`, what: "has an empty name", expected: "names with commas between" });
    const found = await finder.open(given);
    if (sets.some(({ name }) => name === found.name))
      throw new ConfigError({ where: `--sets ${names}`, what: `${found.name} is there twice`, expected: "each set once" });
    sets.push(cut(found, options));
  }
  const total = sets.reduce((sum, { questions }) => sum + questions.length, 0);
  if (sets.length > 1) options.say(`${sets.length} sets: ${count(total)} questions`);
  return sets;
}

/** `data.test` as sets: its data sources, in the order in which they come. */
export function setsOf(questions: readonly Question[], source: string): OpenedSet[] {
  return [...new Set(questions.map(({ dataSource }) => dataSource))].map((dataSource) =>
    asSet(
      dataSource,
      questions.filter((one) => one.dataSource === dataSource),
      source,
    ),
  );
}

/** @throws ConfigError where it is neither */
export function readSubset(given: string | undefined): Subset | null {
  const known = subsets.find((name) => name === given);
  if (given === undefined || known !== undefined) return known ?? null;
  throw new ConfigError({ where: "--subset", what: "wrong value", expected: subsets.join(" or "), got: given });
}

class SetFinder {
  readonly #config: Config;
  readonly #options: OpenSetsOptions;
  #test: Promise<readonly Question[]> | null = null;
  #paper: Promise<Pick<OpenedSet, "questions" | "source">> | null = null;

  constructor(config: Config, options: OpenSetsOptions) {
    this.#config = config;
    this.#options = options;
  }

  async open(given: string): Promise<OpenedSet> {
    const [name = "", ...rest] = given.split("=");
    if (rest.length > 0) return this.#own(name.trim(), rest.join("="));
    const known = namedSet(given);
    if (known !== undefined) return this.#named(known);
    const rows = (await this.#testRows()).filter(({ dataSource }) => dataSource === given);
    if (rows.length > 0) return asSet(given, rows, testName(this.#config));
    const sources = [...new Set((await this.#testRows()).map(({ dataSource }) => dataSource))];
    const guess = nearest(given, [...setNames(), ...sources]);
    throw new ConfigError({
      where: `--sets ${given}`,
      what: "there is no such set",
      expected: `nq, triviaqa, popqa, hotpotqa, 2wiki, musique, bamboogle${sources.length === 0 ? "" : `, a data source of data.test (${sources.slice(0, 8).join(", ")})`}, or NAME=FILE`,
      hint: guess === undefined ? undefined : `did you mean ${guess}?`,
    });
  }

  /** A file of the user's own, under a name of the user's or of the table. */
  async #own(name: string, file: string): Promise<OpenedSet> {
    if (!/^[\w.-]+$/.test(name))
      throw new ConfigError({
        where: `--sets ${name}=${file}`,
        what: "is no name for a set",
        expected: "letters, digits, . _ -",
        got: name,
      });
    const known = namedSet(name);
    const { questions, source } = await this.#fetch(file);
    if (known === undefined) return { ...asSet(name, questions, source), title: name };
    refuseOther(known, questions, source);
    return asSet(known.name, questions, source);
  }

  async #named(known: NamedSet): Promise<OpenedSet> {
    const { setsFolder } = this.#config.evaluation;
    const { say } = this.#options;
    if (setsFolder !== null) {
      const file = findIn(setsFolder, known);
      if (file !== null) {
        const questions = await this.#read(file);
        refuseOther(known, questions, file);
        return asSet(known.name, questions, file);
      }
      say(`${known.name}: not in evaluation.setsFolder=${setsFolder}`);
    }
    const rows = ofSet(await this.#testRows(), known);
    if (rows.length > 0) return asSet(known.name, rows, testName(this.#config));
    if (this.#options.subset !== null) {
      // The rows that the paper took are those of its own file.
      const { questions, source } = await (this.#paper ??= this.#fetch(paperAddress));
      const own = ofSet(questions, known);
      if (own.length === 0)
        throw new DataError({
          where: `--sets ${known.name} (${source})`,
          what: "holds no row of it",
          expected: `rows with data_source ${known.folder}`,
        });
      return asSet(known.name, own, source);
    }
    const { questions, source } = await this.#fetch(hubAddress(known));
    refuseOther(known, questions, source);
    return asSet(known.name, questions, source);
  }

  #testRows(): Promise<readonly Question[]> {
    const { test } = this.#config.data;
    return (this.#test ??= test === null ? Promise.resolve([]) : this.#read(filesOf(test)));
  }

  #read(files: string | readonly string[]): Promise<Question[]> {
    return loadQuestions(files, { onNote: this.#options.say });
  }

  /** A file, or one of the Hub, whose source has the commit. */
  async #fetch(source: string): Promise<Pick<OpenedSet, "questions" | "source">> {
    if (!isHubAddress(source)) {
      if (!existsSync(source)) throw new FileError({ where: "--sets", what: `there is no file ${source}` });
      return { questions: await this.#read(source), source };
    }
    const { env, signal } = this.#options;
    const { file, pinned } = await findFileShown(source, { where: "--sets", env, signal });
    return { questions: await this.#read(file), source: pinned };
  }
}

function findIn(folder: string, known: NamedSet): string | null {
  try {
    return findSetFile(folder, known);
  } catch (cause) {
    throw new FileError(
      {
        where: `evaluation.setsFolder=${folder}`,
        what: `cannot be read: ${(cause as Error).message}`,
        expected: "a folder of question sets",
      },
      { cause },
    );
  }
}

function testName({ data }: Config): string {
  return `data.test=${filesOf(data.test).join(",")}`;
}

function ofSet(questions: readonly Question[], known: NamedSet): Question[] {
  return questions.filter(({ dataSource }) => namedSet(dataSource)?.name === known.name);
}

/** @throws DataError where a row says that it is of another set that is known */
function refuseOther(known: NamedSet, questions: readonly Question[], source: string): void {
  const others = questions.filter(({ dataSource }) => (namedSet(dataSource) ?? known).name !== known.name);
  const [first] = others;
  if (first === undefined) return;
  throw new DataError({
    where: `--sets ${known.name} (${source})`,
    what: "holds rows of another set",
    expected: `data_source ${[known.name, known.folder].filter((name, i, all) => all.indexOf(name) === i).join(" or ")}, or none that is known`,
    got: `${count(others.length)} of ${count(questions.length)} of ${first.dataSource}, such as ${first.id}`,
  });
}

function asSet(name: string, questions: readonly Question[], source: string): OpenedSet {
  const known = namedSet(name);
  const called = known?.name ?? name;
  return {
    name: called,
    title: known?.title ?? name,
    group: known?.group ?? null,
    questions: questions.map((question) => (question.dataSource === called ? question : { ...question, dataSource: called })),
    source,
  };
}

/** The rows that are asked for, and a line that says which. */
function cut(set: OpenedSet, { subset, limit, say }: OpenSetsOptions): OpenedSet {
  const known = namedSet(set.name);
  const all = set.questions.length;
  let { questions } = set;
  let note = "all rows";
  if (subset !== null && known !== undefined) {
    questions = questions.slice(0, known.paperRows);
    note = paperNote(known, all);
    if (subset === "paper-dropped" && rowsKept(known) < questions.length) {
      note += `; of these the first ${rowsKept(known)}, as the paper's loader dropped the others with its last batch`;
      questions = questions.slice(0, rowsKept(known));
    } else if (subset === "paper-dropped") note += "; none of them was dropped";
  } else if (subset !== null) note = "all rows: the paper has no such set";
  if (limit !== null && limit < questions.length) {
    questions = questions.slice(0, limit);
    note += `; of these the first ${count(limit)} (--limit)`;
  }
  say(`${set.name}: ${count(questions.length)} ${questions.length === 1 ? "question" : "questions"} of ${set.source} (${note})`);
  return { ...set, questions };
}

function paperNote({ paperRows }: NamedSet, all: number): string {
  if (all === paperRows) return `the paper's number of rows, ${paperRows}`;
  if (all < paperRows) return `all ${count(all)}; the paper took ${paperRows}`;
  return `the first ${paperRows} of ${count(all)}; the paper's own ${paperRows} are those of ${paperAddress}, and may be others`;
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** `zerosearch table`: joins what runs and evaluations have judged, on the same questions, into one table. Nothing is judged anew. */
import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { runConfigFile, type ArgumentSpec } from "../config/index.ts";
import type { OptionSpec } from "../config/arguments.ts";
import { gridFiles } from "../evaluation/folder.ts";
import { gridJson } from "../evaluation/grid-report.ts";
import { gridText } from "../evaluation/grid-text.ts";
import { ConfigError } from "../util/errors.ts";
import { writeReport } from "./evaluate/table.ts";
import { readMetric, tableOptions } from "./evaluate/wish.ts";
import { readArguments, say } from "./program.ts";
import { findStored } from "./stored.ts";
import { joinedTable, type JoinOptions, type JoinSource } from "./table/join.ts";

const program = "zerosearch table";

const spec: ArgumentSpec = {
  program,
  summary:
    "Joins what runs and evaluations have judged (judged.jsonl) into one table, question by question: scores, paired differences, how the agents search. Folders with commas between are runs of one row, such as those of several seeds.",
  words: ["[NAME=]RUN_OR_FOLDER[,...] ..."],
  options: {
    metric: tableOptions["metric"] as OptionSpec,
    methods: { value: "LIST", doc: "Takes rows of these methods only." },
    when: { value: "WHEN", doc: "Takes rows of before, after or both (after training, where a folder has them)." },
    "compare-to": { value: "NAME", doc: "The row that the others are compared with (the last)." },
    out: { value: "FOLDER", doc: "Writes evaluation.json, table.md and table.svg there." },
    json: { value: "FILE", doc: "Writes evaluation.json there." },
  },
};

export async function main(argv: readonly string[]): Promise<void> {
  const example = "\nExample: zerosearch table Search-R1=runs/r1,runs/r2,runs/r3 ZeroSearch=runs/z1,runs/z2,runs/z3 judged-rag\n";
  const read = readArguments(argv, spec, example);
  if (read === null) return;
  const { options, words } = read;
  const sources = words.map(readSource);
  const out = options.get("out");
  const folders = sources.flatMap((one) => one.folders);
  if (out !== undefined) refuseSource(out, folders);
  const report = await joinedTable(sources, {
    metric: readMetric(options.get("metric")),
    methods: options.get("methods")?.split(",") ?? null,
    when: readWhen(options.get("when")),
    reference: options.get("compare-to") ?? null,
  });
  say(gridText(report, []));
  const json = options.get("json");
  if (json !== undefined) await writeFileAtomic(json, gridJson(report));
  if (out === undefined) return;
  await writeReport(out, report);
  say(`${[gridFiles.report, gridFiles.table, gridFiles.picture].join(", ")} are in ${out}`);
}

/** `NAME=A,B`; a folder that is there is that one, whatever its name holds. @throws ConfigError */
function readSource(word: string): JoinSource {
  if (statSync(word, { throwIfNoEntry: false })?.isDirectory() === true) return { name: null, folders: [word] };
  const at = word.indexOf("=");
  const name = at < 0 ? null : word.slice(0, at).trim();
  if (name === "") throw new ConfigError({ where: `${program} ${word}`, what: "a row without a name", expected: "NAME=FOLDER, or FOLDER" });
  const folders = word
    .slice(at + 1)
    .split(",")
    .map((one) => findStored(one.trim(), [], program));
  const twice = folders.find((one, i) => folders.findIndex((other) => resolve(other) === resolve(one)) !== i);
  if (twice !== undefined)
    throw new ConfigError({ where: `${program} ${word}`, what: `${twice} is there twice`, expected: "each run once" });
  return { name, folders };
}

function readWhen(given: string | undefined): JoinOptions["when"] {
  if (given === undefined || given === "before" || given === "after" || given === "both") return given ?? null;
  throw new ConfigError({ where: "--when", what: "wrong value", expected: "before, after or both", got: given });
}

/** What is joined is not written over. @throws ConfigError */
function refuseSource(out: string, folders: readonly string[]): void {
  const holds = [gridFiles.judged, runConfigFile].find((name) => existsSync(join(out, name)));
  if (holds === undefined && !folders.some((folder) => resolve(folder) === resolve(out))) return;
  throw new ConfigError({
    where: `--out ${out}`,
    what: `holds what was judged (${holds ?? gridFiles.judged}), whose own tables it would write over`,
    expected: "another folder",
  });
}

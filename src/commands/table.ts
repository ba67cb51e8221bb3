/** `zerosearch table`: joins what runs and evaluations have judged, on the same questions, into one table. Nothing is judged anew. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import type { ArgumentSpec } from "../config/index.ts";
import type { OptionSpec } from "../config/arguments.ts";
import { gridFiles } from "../evaluation/folder.ts";
import { gridJson } from "../evaluation/grid-report.ts";
import { gridText } from "../evaluation/grid-text.ts";
import { Closing } from "../setup/closing.ts";
import { ConfigError } from "../util/errors.ts";
import { writeReport } from "./evaluate/table.ts";
import { readMetric, tableOptions } from "./evaluate/wish.ts";
import { holdFolder } from "./hold.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";
import { findStored } from "./stored.ts";
import { joinedTable, refuseJudged, type JoinOptions, type JoinSource } from "./table/join.ts";

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
  const [out, json] = [options.get("out"), options.get("json")];
  const asked: JoinOptions = {
    metric: readMetric(options.get("metric")),
    methods:
      options
        .get("methods")
        ?.split(",")
        .map((name) => name.trim()) ?? null,
    when: readWhen(options.get("when")),
    reference: options.get("compare-to") ?? null,
  };
  if (out !== undefined) refuseJudged(out);
  await untilInterrupted((signal) => {
    const closing = new Closing();
    return closing.after(async () => {
      if (out !== undefined) await holdFolder(out, "nothing was joined", closing, signal);
      const report = await joinedTable(sources, asked);
      say(gridText(report, []));
      if (json !== undefined) await writeFileAtomic(json, gridJson(report));
      if (out === undefined) return;
      await writeReport(out, report);
      say(`${[gridFiles.report, gridFiles.table, gridFiles.picture].join(", ")} are in ${out}`);
    });
  });
}

/** `NAME=A,B`; a folder that is there is that one, whatever its name holds. @throws ConfigError */
function readSource(word: string): JoinSource {
  if (statSync(word, { throwIfNoEntry: false })?.isDirectory() === true) return { name: null, folders: [word] };
  const at = word.indexOf("=");
  const name = at < 0 ? null : word.slice(0, at).trim();
  if (name === "") throw new ConfigError({ where: `${program} ${word}`, what: "a row without a name", expected: "NAME=FOLDER, or FOLDER" });
  const rest = word.slice(at + 1);
  const isOne = statSync(rest, { throwIfNoEntry: false })?.isDirectory() === true;
  const folders = (isOne ? [rest] : rest.split(",")).map((one) => findStored(one.trim(), [], program));
  const twice = folders.find((one, i) => folders.findIndex((other) => resolve(other) === resolve(one)) !== i);
  if (twice !== undefined)
    throw new ConfigError({ where: `${program} ${word}`, what: `${twice} is there twice`, expected: "each run once" });
  return { name, folders };
}

function readWhen(given: string | undefined): JoinOptions["when"] {
  if (given === undefined || given === "before" || given === "after" || given === "both") return given ?? null;
  throw new ConfigError({ where: "--when", what: "wrong value", expected: "before, after or both", got: given });
}

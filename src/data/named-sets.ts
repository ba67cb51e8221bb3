/**
 * The question sets of the paper's table, by name: where FlashRAG keeps each, what others call it, and which of its rows the paper was judged by.
 *
 * Sources: FlashRAG_datasets on the Hub (RUC-NLPIR) for the folders and splits; ZeroSearch (arXiv 2505.04588) 4.1 for the two groups. That the paper took
 * 500 rows of a set, and 125 of Bamboogle, is told by its scores, which are multiples of .2 and .8.
 */
import { readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";

export type SetGroup = "single-hop" | "multi-hop";

export interface NamedSet {
  /** As it is called here, in rows and on the command line. */
  readonly name: string;
  /** As the paper's table has it. */
  readonly title: string;
  readonly group: SetGroup;
  /** Its folder at FlashRAG, and the split that is judged by. */
  readonly folder: string;
  readonly split: "test" | "dev";
  /** What rows and people call it besides. */
  readonly aliases: readonly string[];
  /** Rows of the paper. */
  readonly paperRows: number;
}

/** In the order of the paper's table, which is that of its rows. */
export const namedSets: readonly NamedSet[] = [
  set("nq", "NQ", "single-hop", "test", { aliases: ["natural_questions", "nq_open", "nqopen"] }),
  set("triviaqa", "TriviaQA", "single-hop", "test", { aliases: ["trivia", "trivia_qa", "tqa"] }),
  set("popqa", "PopQA", "single-hop", "test", { aliases: ["pop_qa"] }),
  set("hotpotqa", "HotpotQA", "multi-hop", "dev", { aliases: ["hotpot", "hotpot_qa"] }),
  set("2wiki", "2Wiki", "multi-hop", "dev", { folder: "2wikimultihopqa", aliases: ["2wikimultihop", "2wikimqa", "2wikimultihop_qa"] }),
  set("musique", "MuSiQue", "multi-hop", "dev", { aliases: ["musique_ans"] }),
  set("bamboogle", "Bamboogle", "multi-hop", "test", { paperRows: 125 }),
];

/** The paper's evaluation read its 3,125 rows in batches of so many, and dropped the last one, which was not full. */
const paperBatch = 64;

function set(
  name: string,
  title: string,
  group: SetGroup,
  split: NamedSet["split"],
  { folder = name, aliases = [], paperRows = 500 }: Partial<Pick<NamedSet, "folder" | "aliases" | "paperRows">>,
): NamedSet {
  return { name, title, group, folder, split, aliases, paperRows };
}

/** The set of that name or alias, whatever its case, hyphens and underscores; undefined where there is none. */
export function namedSet(name: string): NamedSet | undefined {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[-_\s]/g, "");
  return namedSets.find((one) => [one.name, one.folder, ...one.aliases].some((known) => plain(known) === plain(name)));
}

/** All names that `namedSet` knows. */
export function setNames(): string[] {
  return namedSets.flatMap(({ name, folder, aliases }) => [...new Set([name, folder, ...aliases])]);
}

/** Rows of the paper's set that its loader kept: all, but for the last set, which the dropped batch cut. */
export function rowsKept({ name, paperRows }: NamedSet): number {
  const all = namedSets.reduce((sum, one) => sum + one.paperRows, 0);
  return name === namedSets.at(-1)?.name ? paperRows - (all % paperBatch) : paperRows;
}

/** Its file at FlashRAG, as an address on the Hub. */
export function hubAddress({ folder, split }: NamedSet): string {
  return `hf://datasets/RUC-NLPIR/FlashRAG_datasets/${folder}/${split}.jsonl`;
}

/** The paper's own rows of all sets. */
export const paperAddress = "hf://datasets/sunhaonlp/ZeroSearch_dataset/test.parquet";

const endings = ["jsonl", "json", "parquet"].flatMap((kind) => [kind, `${kind}.gz`, `${kind}.zst`]);

/**
 * A set's file in a folder: as FlashRAG has them, `nq/test.jsonl`, or side by side, `nq_test.jsonl`; of the split that is judged by, else another that is
 * not trained on. Null where it is not there.
 * @throws the system's error where the folder cannot be read
 */
export function findSetFile(folder: string, { name, folder: own, split, aliases }: NamedSet): string | null {
  const names = [...new Set([own, name, ...aliases])];
  const splits = [split, ...["test", "dev"].filter((one) => one !== split)];
  const here = new Set(readdirSync(folder));
  for (const one of splits)
    for (const of of names) {
      const flat = endings.map((ending) => `${of}_${one}.${ending}`).find((file) => here.has(file));
      if (flat !== undefined) return join(folder, flat);
      const inside = here.has(of) && statSync(join(folder, of)).isDirectory() ? new Set(readdirSync(join(folder, of))) : new Set<string>();
      const found = endings.map((ending) => `${one}.${ending}`).find((file) => inside.has(file));
      if (found !== undefined) return join(folder, of, found);
    }
  return null;
}

/** What a file of one's own is called where no name is given. */
export function nameOfFile(file: string): string {
  return basename(file).replace(/(?:\.(?:jsonl?|ndjson|parquet|gz|zst|zstd))+$/i, "");
}

/** Methods x engines over the questions of all sets: every cell of the table, in parts that fit in memory, from where an earlier program stopped. */
import type { AgentContext, Method } from "../agent/methods/method.ts";
import { Progress, steadyClock } from "../log/progress.ts";
import { searchWarnings } from "../rl/metrics.ts";
import type { Question, SearchTrajectory } from "../rl/trajectory.ts";
import type { Engine } from "../search/search-engine.ts";
import { evaluate } from "./evaluate.ts";
import type { HealthOptions } from "./health.ts";
import type { JudgedRow } from "./judge.ts";
import type { When } from "./report.ts";
import { Tally, type CellTally } from "./tally.ts";

/** One row of the table. */
export interface Cell<Of = Method> {
  readonly method: Of;
  /** Its name; "none" where the method never searches. */
  readonly engine: string;
}

/** The rows of the table, in order: a method that never searches has one, others one for each engine. */
export function cellsOf<Of extends Pick<Method, "searches">>(methods: readonly Of[], engines: readonly string[]): Cell<Of>[] {
  return methods.flatMap((method) =>
    method.searches === false ? [{ method, engine: "none" }] : engines.map((engine) => ({ method, engine })),
  );
}

export interface GridOptions extends HealthOptions {
  readonly cells: readonly Cell[];
  /** By name. */
  readonly engine: (name: string) => Engine;
  /** Of all sets, one after the other. */
  readonly questions: readonly Question[];
  /** Greedy; the prompts of a method. */
  readonly context: (method: Method) => Omit<AgentContext, "engine">;
  readonly when: When;
  readonly step: number | null;
  readonly hotpotYesNo: boolean;
  /** Rows that are there already: so many of the first cell, and so on. */
  readonly done: AsyncIterable<JudgedRow> | null;
  /** Each new row, in the order of cells and questions. */
  readonly onJudged: (row: JudgedRow) => void;
  /** After each part of a cell, and where a part was cut short by an error. */
  readonly onPart: (part: GridPart) => void;
  readonly say: (text: string) => void;
  readonly signal?: AbortSignal;
}

export interface GridPart {
  readonly method: string;
  readonly engine: string;
  readonly questions: number;
  readonly seconds: number;
}

/** Questions whose trajectories are held at once. */
const partSize = 2048;

/**
 * @returns a tally for each cell
 * @throws whatever a method or an engine throws; what `done` throws; the signal's reason
 */
export async function judgeGrid(options: GridOptions): Promise<CellTally[]> {
  const { cells, questions, done } = options;
  const tallies = cells.map(({ method, engine }) => new Tally(method.name, engine, options));
  let there = 0;
  if (done !== null) for await (const row of done) tallies[Math.floor(there++ / questions.length)]?.add(row);
  for (const [c, cell] of cells.entries()) {
    const from = Math.min(questions.length, Math.max(0, there - c * questions.length));
    if (from < questions.length) await judgeCell(options, cell, from, tallies[c] as Tally, `${c + 1}/${cells.length} ${titleOf(cell)}:`);
  }
  return tallies.map((tally) => tally.take());
}

export function titleOf({ method, engine }: Cell<Pick<Method, "name">>): string {
  return engine === "none" ? method.name : `${method.name} with ${engine}`;
}

async function judgeCell(options: GridOptions, { method, engine }: Cell, first: number, tally: Tally, label: string): Promise<void> {
  const { questions, when, step, hotpotYesNo, signal, onJudged, onPart, say } = options;
  const asked = engine === "none" ? unasked : options.engine(engine);
  const context: AgentContext = { ...options.context(method), engine: asked };
  const progress = new Progress({ label, total: questions.length, from: first, plainInterval: 15_000 });
  const searched: SearchTrajectory[] = [];
  try {
    for (let from = first; from < questions.length; from += partSize) {
      const to = Math.min(questions.length, from + partSize);
      const started = steadyClock();
      let rows = 0;
      try {
        const judged = await evaluate(questions, method, context, {
          ...{ range: { from, to }, hotpotYesNo },
          ...(signal === undefined ? {} : { signal }),
          onJudged({ trajectory, scores }) {
            const row: JudgedRow = { when, method: method.name, engine, step, ...scores, ...trajectory };
            tally.add(row);
            onJudged(row);
            rows++;
          },
          onFinished: (_, finished) => {
            if (finished >= (to - from) / 10) progress.update(from + finished);
          },
        });
        searched.push(...judged.map(({ trajectory }) => withoutTokens(trajectory)));
      } finally {
        onPart({ method: method.name, engine, questions: rows, seconds: (steadyClock() - started) / 1000 });
      }
    }
  } finally {
    progress.finish();
  }
  for (const line of searchWarnings(searched)) say(`warning: ${label} ${line}`);
}

/** What warnings are made of: of a large evaluation the rest is not held. */
function withoutTokens(trajectory: SearchTrajectory): SearchTrajectory {
  const searches = trajectory.searches.map((search) => ({
    ...search,
    documents: search.documents.map(({ text }) => ({ text: text.trim().slice(0, 1) })),
    text: "",
  }));
  return { ...trajectory, searches, ids: [], lossMask: [], logProbs: [], text: "" };
}

/** What a method that never searches is given. */
const unasked: Engine = {
  name: "none",
  search: () => Promise.reject(new Error("a method that never searches has asked for documents")),
  close: () => Promise.resolve(),
};

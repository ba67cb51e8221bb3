/** Seconds and costs of an evaluation's rows: what no report holds, since a clock tells it. Parts of killed programs count. */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../../config/index.ts";
import { gridFiles } from "../../evaluation/folder.ts";
import type { GridPart } from "../../evaluation/grid.ts";
import type { RowCosts } from "../../evaluation/grid-text.ts";
import { wholeRows } from "../../log/whole-rows.ts";
import { costLines, costText } from "../../run/costs.ts";
import { sumsOf } from "../../run/priced-line.ts";
import { attempt } from "../../util/errors.ts";

/** A row of `parts.jsonl`. */
type NotedPart = GridPart & { readonly counts: Readonly<Record<string, number>> };

/** Notes parts of an evaluation, in a file where there is a folder. */
export class PartCosts {
  readonly #config: Config;
  readonly #parts: NotedPart[] = [];
  #file: string | null = null;

  constructor(config: Config) {
    this.#config = config;
  }

  /** Goes on after what an earlier program noted. */
  async keepIn(folder: string): Promise<void> {
    this.#file = join(folder, gridFiles.parts);
    for await (const part of wholeRows<NotedPart>(this.#file)) this.#parts.push(part);
  }

  add(part: NotedPart): void {
    this.#parts.push(part);
    const file = this.#file;
    // Where it cannot be written the other files say so.
    if (file !== null) attempt(() => appendFileSync(file, `${JSON.stringify(part)}\n`), undefined);
  }

  /** By row of the table. */
  rows(): RowCosts[] {
    const names = [...new Set(this.#parts.map(({ method, engine }) => JSON.stringify([method, engine])))];
    return names.map((name) => {
      const [method, engine] = JSON.parse(name) as [string, string];
      const own = this.#parts.filter((part) => part.method === method && part.engine === engine);
      const { questions, seconds, counts } = sumOf(own);
      return { method, engine, questions, seconds, cost: Object.fromEntries(sumsOf(costLines(this.#config, { seconds, counts }))) };
    });
  }

  /** The table of all that was paid for; "" where nothing was. */
  text(): string {
    const { seconds, counts } = sumOf(this.#parts);
    return costText(this.#config, { seconds, simulated: 0, counts });
  }
}

function sumOf(parts: readonly NotedPart[]): Pick<NotedPart, "questions" | "seconds" | "counts"> {
  const counts: Record<string, number> = {};
  for (const part of parts) for (const [name, count] of Object.entries(part.counts)) counts[name] = (counts[name] ?? 0) + count;
  const sum = (of: (part: NotedPart) => number): number => parts.reduce((total, part) => total + of(part), 0);
  return { questions: sum(({ questions }) => questions), seconds: sum(({ seconds }) => seconds), counts };
}

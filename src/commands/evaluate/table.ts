/** `zerosearch evaluate` with several methods, engines or sets: the table of the paper, its statistics, and a folder that goes on. */
import { dirname, join } from "node:path";
import type { AgentContext, Method } from "../../agent/methods/method.ts";
import { withoutText } from "../../agent/prompts.ts";
import { makeFolder, writeFileAtomic } from "../../checkpoint/atomic.ts";
import { checkEngines, type Config } from "../../config/index.ts";
import { compare } from "../../evaluation/compare.ts";
import { canResume, clearFolder, gridFiles, judgedRows, type Identity } from "../../evaluation/folder.ts";
import { cellsOf, judgeGrid } from "../../evaluation/grid.ts";
import { gridJson, gridReport, type GridReport } from "../../evaluation/grid-report.ts";
import { gridSvg } from "../../evaluation/grid-svg.ts";
import { gridMarkdown, gridText } from "../../evaluation/grid-text.ts";
import type { JudgedRow } from "../../evaluation/judge.ts";
import type { When } from "../../evaluation/report.ts";
import { JsonLines } from "../../log/json-lines.ts";
import type { FoundPolicy } from "../../run/find-policy.ts";
import { normalizerNotes, openTest } from "../../run/run-data.ts";
import type { Engine } from "../../search/search-engine.ts";
import { Closing } from "../../setup/closing.ts";
import { openedAs } from "../../setup/evaluated-engines.ts";
import { scoreRules, simulatorPositions } from "../../setup/open-agents.ts";
import { Engines } from "../../setup/open-engines.ts";
import { checkMethodFits } from "../../setup/open-method.ts";
import { openJudgedPolicy } from "../../setup/open-judged.ts";
import { openSets, setsOf, type OpenedSet } from "../../setup/open-sets.ts";
import { ConfigError } from "../../util/errors.ts";
import { holdFolder } from "../hold.ts";
import { say } from "../program.ts";
import { PartCosts } from "./costs.ts";
import { coverageOf } from "./coverage.ts";
import { identityOf } from "./identity.ts";
import { openMethods, type TableWish } from "./wish.ts";

export interface TableOptions {
  /** What a run left, where a run is judged after training. */
  readonly left: FoundPolicy | null;
  readonly when: When;
  readonly json: string | undefined;
  readonly out: string | undefined;
  readonly signal: AbortSignal;
}

/** Judges all cells of the table and writes what was found. @throws whatever is wrong with what was asked for */
export async function evaluateTable(config: Config, wish: TableWish, { left, when, json, out, signal }: TableOptions): Promise<void> {
  const closing = new Closing();
  await closing.after(async () => {
    if (out !== undefined) await holdFolder(out, "nothing was judged", closing, signal);
    const sets = await setsWished(config, wish, signal);
    const questions = sets.flatMap((set) => set.questions);
    for (const note of normalizerNotes(config.reward.normalizer, questions)) say(note);
    const opened = await openMethods(wish, config);
    const names = opened.methods.some(({ searches }) => searches !== false) ? (wish.engines ?? [config.evaluation.engine]) : [];
    const used = [...new Set(names.map(openedAs))];
    checkEngines(config, used);
    const engines = await Engines.open(config, used, closing, { signal });
    const positions = used.includes("simulated") ? simulatorPositions(config, questions) : null;
    const step = left?.step ?? null;
    const folder = { identity: null as Identity | null, resumes: false };
    // Before gigabytes are loaded.
    const check = async (located: Config, device: { readonly kind: string }): Promise<void> => {
      if (out === undefined) return;
      folder.identity = await identityOf(located, { opened, sets, engines: names, when, step, device: device.kind });
      folder.resumes = wish.resume && canResume(out, folder.identity);
    };
    const policy = await openJudgedPolicy(config, { simulatorPositions: positions, embeds: used.includes("dense"), check, say, closing });
    say(`policy ${left?.text ?? policy.text} | seed ${config.seed}`);
    if (policy.parts !== null) await engines.add(config, policy.parts, closing, signal);
    const byName = namedEngines(names, engines);
    const anyEngine = [...byName.values()][0] ?? engines.get(config.evaluation.engine);
    const judging = policy.judging(anyEngine);
    const context = (method: Method): AgentContext =>
      method === opened.own ? judging : { ...judging, prompts: withoutText(judging.prompts) };
    for (const method of opened.methods) await checkMethodFits(method, questions, context(method), policy.maxPositions);
    await policy.prepare();
    // Nothing that was asked for is refused from here on: what an earlier evaluation left may go.
    const { identity, resumes } = folder;
    if (out !== undefined && identity !== null && !resumes) await beginFolder(out, identity, wish.resume);
    const coverage = await coverageOf(config, used, questions, { out, signal });

    const cells = cellsOf(opened.methods, [...byName.keys()]);
    const costs = new PartCosts(config);
    if (out !== undefined) {
      engines.keepPaid(join(out, gridFiles.paid));
      await costs.keepIn(out);
    }
    const cellNames = cells.map(({ method, engine }) => ({ method: method.name, engine }));
    let log: JsonLines<JudgedRow> | null = null;
    const open = (): JsonLines<JudgedRow> | null =>
      out === undefined ? null : (log ??= closing.add(new JsonLines<JudgedRow>(join(out, gridFiles.judged)), (one) => one.close()));
    const tallies = await judgeGrid({
      ...{ cells, questions, context, when, step, signal, say },
      ...{ rules: scoreRules(config), maxNewTokens: config.rollout.maxNewTokens, hotpotYesNo: config.evaluation.hotpotYesNo },
      engine: (name) => byName.get(name) ?? anyEngine,
      done: resumes && out !== undefined ? judgedRows(out, cellNames, questions) : null,
      onJudged: (row) => open()?.append([row]),
      onPart: (part) => costs.add({ ...part, counts: { ...engines.takeCounts(), ...policy.takeCounts() } }),
    });
    open()?.sync();
    for (const line of policy.warnings()) say(`warning: ${line}`);
    const { bootstrapSamples: samples, hotpotYesNo } = config.evaluation;
    const head = {
      model: policy.name,
      when,
      step,
      seed: config.seed,
      samples,
      metric: wish.metric,
      reference: opened.reference,
      hotpotYesNo,
    };
    const shown = sets.map(({ name, title, group, questions: own, source }) => ({ name, title, group, n: own.length, source }));
    const report = gridReport(
      head,
      shown,
      tallies,
      compare(tallies, { seed: config.seed, samples, reference: opened.reference }),
      coverage,
    );
    const rowCosts = costs.rows();
    say(gridText(report, rowCosts));
    const paid = costs.text();
    if (paid !== "") say(`${paid}\n`);
    if (json !== undefined) await writeFileAtomic(json, gridJson(report));
    if (out !== undefined) {
      await writeReport(out, report);
      await writeFileAtomic(join(out, gridFiles.costs), `${JSON.stringify(rowCosts, null, 1)}\n`);
      say(`${[gridFiles.report, gridFiles.table, gridFiles.picture, gridFiles.judged].join(", ")} are in ${out}`);
    }
  });
}

async function setsWished(config: Config, { sets, subset, limit }: TableWish, signal: AbortSignal): Promise<OpenedSet[]> {
  if (sets !== null) return openSets(sets, config, { subset, limit, say, signal });
  return setsOf(await openTest(config, say), `data.test=${String(config.data.test)}`);
}

/** By the name that their rows have. @throws ConfigError for two of one name */
function namedEngines(names: readonly string[], engines: Engines): Map<string, Engine> {
  const byName = new Map<string, Engine>();
  for (const name of names) {
    const engine = engines.get(name);
    if (byName.has(engine.name))
      throw new ConfigError({
        where: `--engines ${names.join(",")}`,
        what: `two engines are called ${engine.name}`,
        expected: "a name each",
      });
    byName.set(engine.name, engine);
  }
  return byName;
}

/** The folder is emptied and says what it is of. */
async function beginFolder(folder: string, identity: Identity, resume: boolean): Promise<void> {
  if (resume) say(`${folder} holds no evaluation: it begins`);
  clearFolder(folder);
  await writeFileAtomic(join(folder, gridFiles.settings), `${JSON.stringify(identity, null, 1)}\n`);
}

/** @internal */
export async function writeReport(folder: string, report: GridReport): Promise<void> {
  await makeFolder(dirname(join(folder, gridFiles.report)));
  await writeFileAtomic(join(folder, gridFiles.table), gridMarkdown(report));
  await writeFileAtomic(join(folder, gridFiles.picture), gridSvg(report));
  await writeFileAtomic(join(folder, gridFiles.report), gridJson(report));
}

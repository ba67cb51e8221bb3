/** `zerosearch quickstart build`: makes the models and the world of the quickstart. */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { argumentsHelp, packageFolder, parseArguments, type ArgumentSpec } from "../config/index.ts";
import { makeFolder, writeFileAtomic } from "../checkpoint/atomic.ts";
import { loadCountryRecords, makeCountries, worldAttribution } from "../data/quickstart/countries.ts";
import { inventedSource } from "../data/quickstart/invented.ts";
import { simulatorOptions, type QueryKind } from "../data/quickstart/scripted-simulator.ts";
import { makeSearchWorld } from "../data/quickstart/search-world.ts";
import { makeWorld } from "../data/quickstart/world.ts";
import type { Wish } from "../device/choose.ts";
import { deviceNames } from "../device/devices.ts";
import { BatchGenerator } from "../generate/scheduler.ts";
import { formatTable } from "../log/table.ts";
import { simulatorStop } from "../search/simulated.ts";
import { compileTextStops } from "../generate/stop-automaton.ts";
import { openDevice } from "../setup/open-device.ts";
import { openModel } from "../setup/open-model.ts";
import { ConfigError, FileError } from "../util/errors.ts";
import { say } from "./program.ts";
import { buildQuickstart } from "./quickstart/build.ts";
import { formatNames, formatRows } from "./quickstart/formats.ts";
import { measureSimulator, type SimulatorMeasure } from "./quickstart/measure-simulator.ts";
import { recipe } from "./quickstart/recipe.ts";
import { main as table } from "./quickstart/table.ts";

const deviceKinds = ["auto", ...deviceNames] as const;

const spec: ArgumentSpec = {
  program: "zerosearch quickstart build|measure|searches|formats|table",
  summary:
    "build: makes the quickstart's world, tokenizer, simulator and cold-started policy from nothing, and goes on where it was stopped. measure: judges the simulator. searches: writes invented questions with their queries, and a corpus, for zerosearch collect. formats: writes rows that teach the policy another format, for zerosearch sft with sft.raw=true. table: trains and judges every method (table --help).",
  options: {
    out: { value: "PATH", doc: "Where the files go (checkpoints/quickstart of this package); formats: the file of rows." },
    work: { value: "FOLDER", doc: "Where unfinished stages are kept (<out>.work)." },
    device: { value: "KIND", doc: `measure: ${deviceKinds.join(", ")} (auto); build computes on the CPU.` },
    questions: { value: "N", doc: "searches: how many (64000)." },
    format: { value: "NAME", doc: `formats: ${formatNames.join(", ")}.` },
    examples: { value: "N", doc: "formats: how many scripted rollouts (4000)." },
    seed: { value: "N", doc: "searches: another seed makes other countries; formats: other rollouts (that of the recipe)." },
    kinds: {
      value: "SHARES",
      doc: "searches: shares of queries for the answer, for the country between two hops, and for something else (0.5,0.22,0.28).",
    },
    fresh: { doc: "Starts again from nothing." },
  },
};

export async function main(argv: readonly string[]): Promise<void> {
  const [action, ...rest] = argv;
  if (action === "table") {
    await table(rest);
    return;
  }
  const { options } = parseArguments(rest, spec);
  if (action === undefined || action.startsWith("-") || options.has("help")) {
    process.stdout.write(argumentsHelp(spec));
    return;
  }
  const out = options.get("out") ?? join(packageFolder, "checkpoints", "quickstart");
  const work = options.get("work") ?? `${out}.work`;
  const kind = deviceKind(options.get("device"));
  if (action === "build") {
    if (options.has("fresh")) await rm(work, { recursive: true, force: true });
    // the files are the same bits everywhere, which only the CPU's kernels promise
    const device = await openDevice({ kind: "cpu" }, say);
    try {
      await buildQuickstart({ recipe, device, out, work, say });
    } finally {
      await device.destroy();
    }
    await measure(out, "cpu");
    say(`The quickstart's files are in ${out}. ${work} may be deleted.`);
  } else if (action === "measure") {
    await measure(out, kind);
  } else if (action === "searches") {
    await writeSearches(options);
  } else if (action === "formats") {
    await writeFormats(options);
  } else {
    const expected = "build, measure, searches, formats or table";
    throw new ConfigError({ where: "zerosearch quickstart", what: "unknown action", expected, got: action });
  }
}

async function writeSearches(options: ReadonlyMap<string, string>): Promise<void> {
  const folder = options.get("out");
  if (folder === undefined) throw new ConfigError({ where: "--out", what: "is missing", expected: "a folder", got: "nothing" });
  const [count, seed] = [whole(options, "questions", 64_000), whole(options, "seed", recipe.seed)];
  const world = makeWorld(makeCountries(loadCountryRecords()), { seed: recipe.seed });
  const { questions, passages } = makeSearchWorld(inventedSource(world), { seed, count, kinds: queryKinds(options.get("kinds")) });
  await makeFolder(folder);
  for (const [name, rows] of [
    ["questions.jsonl", questions],
    ["corpus.jsonl", passages],
  ] as const)
    await writeFileAtomic(join(folder, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  await writeFileAtomic(join(folder, "README.md"), `${worldAttribution} Countries that are not real are invented.\n`);
  say(`${questions.length} questions and ${passages.length} passages are in ${folder}.`);
}

async function writeFormats(options: ReadonlyMap<string, string>): Promise<void> {
  const [format, out] = ["format", "out"].map((name) => {
    const given = options.get(name);
    if (given !== undefined) return given;
    throw new ConfigError({
      where: `--${name}`,
      what: "is missing",
      expected: name === "out" ? "a file" : formatNames.join(", "),
      got: "nothing",
    });
  }) as [string, string];
  const [examples, seed] = [whole(options, "examples", 4000), whole(options, "seed", recipe.seed)];
  const world = makeWorld(makeCountries(loadCountryRecords()), { seed: recipe.seed });
  const rows = await formatRows(inventedSource(world), { format, examples, seed });
  await writeFileAtomic(out, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  say(`${rows.length} rows of ${examples} rollouts in the format ${format} are in ${out}.`);
}

function whole(options: ReadonlyMap<string, string>, name: string, value: number): number {
  const given = options.get(name) ?? String(value);
  if (/^[1-9]\d{0,8}$/.test(given)) return Number(given);
  throw new ConfigError({ where: `--${name}`, what: "wrong value", expected: "a whole number from 1", got: given });
}

function queryKinds(given: string | undefined): Readonly<Record<QueryKind, number>> {
  if (given === undefined) return simulatorOptions.kinds;
  const [last = NaN, bridge = NaN, sloppy = NaN, ...more] = given.split(",").map(Number);
  const all = [last, bridge, sloppy];
  if (more.length === 0 && all.every((share) => share >= 0 && share <= 1) && Math.abs(last + bridge + sloppy - 1) < 1e-6)
    return { last, bridge, sloppy };
  throw new ConfigError({
    where: "--kinds",
    what: "are no shares",
    expected: "three numbers that make 1, such as 0.5,0.22,0.28",
    got: given,
  });
}

function deviceKind(given = "auto"): Wish["kind"] {
  const kind = deviceKinds.find((name) => name === given);
  if (kind !== undefined) return kind;
  throw new ConfigError({ where: "--device", what: "wrong value", expected: deviceKinds.join(", "), got: given });
}

async function measure(out: string, kind: Wish["kind"]): Promise<void> {
  const folder = join(out, "simulator");
  if (!existsSync(folder)) throw new FileError({ where: folder, what: "is missing", hint: "run: npx zerosearch quickstart build" });
  const device = await openDevice({ kind }, say);
  const { decoder, tokenizer } = await openModel(folder, device, { dtype: "f32", maxPositions: 512, trainable: false });
  const generator = new BatchGenerator({ device, models: { simulator: { decoder, frozen: true } }, maxRows: 128 });
  try {
    const world = makeWorld(makeCountries(loadCountryRecords()), { seed: recipe.seed });
    const stop = compileTextStops([simulatorStop(3)], tokenizer, decoder.config.vocabulary);
    const { seed, simulatorTemperature: temperature } = recipe;
    const rows = await measureSimulator(world, { generator, model: "simulator", tokenizer, stop, temperature, maxNewTokens: 96, seed });
    say(
      formatTable<SimulatorMeasure>(
        [
          { title: "simulator, held-out questions", value: (row) => row.name },
          { title: "n", value: (row) => row.n },
          { title: "measured", value: (row) => `${(100 * row.share).toFixed(1)} %` },
          {
            title: "asked for",
            value: (row) => (row.atLeast !== undefined ? `at least ${100 * row.atLeast} %` : `at most ${100 * (row.atMost ?? 1)} %`),
          },
        ],
        rows,
      ),
    );
  } finally {
    await generator.dispose();
    decoder.dispose();
    await device.destroy();
  }
}

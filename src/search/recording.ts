/**
 * Searches kept in a file, and answered from it: a run or an evaluation repeats without network, key and cost. One row a search, in SQLite: engine,
 * the settings that its answers depend on, query, rollout and turn, documents or failure, when, how long.
 *
 * A search is known again by engine, settings, query, rollout and turn; by its question too where the engine is a simulator. Where it is replayed, and
 * the engine is real, an answer to the same query of another rollout will do.
 */
import type { Client } from "@libsql/client";
import { DataError, ServerError, TooLongError, show } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { byQuery, exactly, openRecording, reading, rowOf, valuesOf, writing, type Found, type Row, type Said } from "./recording-file.ts";
import { ask, askPage, type Engine, type SearchEngine, type SearchResult, type Simulator, type SimulatorRequest } from "./search-engine.ts";

export interface RecordingOptions {
  /** File that searches are kept in; null keeps none. */
  readonly record: string | null;
  /** File that searches are answered from, which may be the same: then what it lacks is asked and kept. */
  readonly replay: string | null;
  /** Milliseconds of a steady clock. */
  readonly now: () => number;
}

/** What answers depend on: `settings` is anything that JSON can hold. */
export interface EngineIdentity {
  readonly name: string;
  readonly settings: unknown;
}

/** Searches since they were last taken. */
export interface RecordingCounts {
  readonly recorded: number;
  readonly replayed: number;
}

/** What engines keep their searches in, and are answered from. */
export class Recording {
  /** Written to; null where nothing is recorded. */
  readonly #kept: Client | null;
  /** Answered from, besides `#kept`; null where nothing is replayed. */
  readonly #replayed: Client | null;
  readonly #options: RecordingOptions;
  /** Numbers of engines, by database and identity. */
  readonly #engines = new Map<string, Promise<number | null>>();
  /** Calls under way whose answer another search with the same query will do with. */
  readonly #underWay = new Map<string, Promise<SearchResult>>();
  #counts: RecordingCounts = { recorded: 0, replayed: 0 };

  private constructor(options: RecordingOptions, kept: Client | null, replayed: Client | null) {
    this.#options = options;
    this.#kept = kept;
    this.#replayed = replayed;
  }

  /** Null where nothing is recorded or replayed. @throws FileError where a file is not there, cannot be opened, or is no recording. */
  static async open(options: RecordingOptions): Promise<Recording | null> {
    const { record, replay } = options;
    if (record === null && replay === null) return null;
    const kept = record === null ? null : await openRecording("search.record", record, true);
    try {
      const replayed = replay === null ? null : replay === record ? kept : await openRecording("search.replay", replay, false);
      return new Recording(options, kept, replayed);
    } catch (error) {
      kept?.close();
      throw error;
    }
  }

  /** Whether engines need not be there: every search is answered from the file. */
  get stands(): boolean {
    return this.#kept === null;
  }

  /** Whether some search may be answered without an engine. */
  async holdsSearches(): Promise<boolean> {
    for (const one of new Set([this.#kept, this.#replayed]))
      if (one !== null && (await one.execute("select 1 from searches limit 1")).rows.length > 0) return true;
    return false;
  }

  /**
   * An engine that keeps what `engine` answers, or is answered in its place. It closes `engine`.
   * @param identity - of the same engine in another run, the same
   */
  over(engine: Engine, identity: EngineIdentity): Engine {
    const live = (request: SimulatorRequest) => ask(engine, request);
    if ("simulate" in engine) return this.#simulator(identity, live, engine);
    const pages: Live = async ({ query: address, key, turn, signal }) => {
      const page = await askPage(engine, { address, key, turn, ...(signal === undefined ? {} : { signal }) });
      return { documents: page === null ? [] : [page], kind: "real" };
    };
    return this.#search(identity, live, () => engine.close(), engine.page === undefined ? "none" : pages);
  }

  /** An engine that is not there. @param noise - of a simulator: the probability of noise at a step */
  instead(identity: EngineIdentity, noise: ((step: number) => number) | null): Engine {
    const close = (): Promise<void> => Promise.resolve();
    return noise === null
      ? this.#search(identity, null, close, null)
      : this.#simulator(identity, null, { name: identity.name, noiseProbability: noise, close });
  }

  takeCounts(): RecordingCounts {
    const counts = this.#counts;
    this.#counts = { recorded: 0, replayed: 0 };
    return counts;
  }

  /** Leaves one file. */
  async close(): Promise<void> {
    await this.#kept?.execute("pragma journal_mode = delete").catch(() => undefined);
    this.#kept?.close();
    if (this.#replayed !== this.#kept) this.#replayed?.close();
  }

  #search(identity: EngineIdentity, live: Live | null, close: () => Promise<void>, pages: Live | "none" | null): SearchEngine {
    const { name } = identity;
    const search: SearchEngine["search"] = (request) =>
      this.#answer(identity, { ...request, question: "", goldenAnswers: [] }, live, false);
    if (pages === "none") return { name, search, close };
    // Pages are kept as searches of an engine of their own.
    const paged = { ...identity, name: `${name} pages` };
    const page: NonNullable<SearchEngine["page"]> = async ({ address, ...request }) => {
      // An engine that is not there may have had none.
      if (pages === null && (await this.#engine(this.#replayed as Client, paged)) === null) return null;
      const asked = { ...request, query: address, question: "", goldenAnswers: [] };
      const { documents } = await this.#answer(paged, asked, pages, false);
      return documents[0] ?? null;
    };
    return { name, search, page, close };
  }

  #simulator(identity: EngineIdentity, live: Live | null, of: Pick<Simulator, "name" | "noiseProbability" | "close">): Simulator {
    return {
      name: of.name,
      simulate: (request) => this.#answer(identity, request, live, true),
      noiseProbability: (step) => of.noiseProbability(step),
      close: () => of.close(),
    };
  }

  async #answer(identity: EngineIdentity, request: SimulatorRequest, live: Live | null, simulates: boolean): Promise<SearchResult> {
    const row = rowOf(request, simulates);
    for (const database of new Set([this.#kept, this.#replayed])) {
      if (database === null) continue;
      const where = database === this.#kept ? `search.record=${this.#options.record ?? ""}` : `search.replay=${this.#options.replay ?? ""}`;
      const found = await reading(where, async () => {
        const engine = await this.#engine(database, identity);
        if (engine === null) return null;
        const same = await exactly(database, engine, row);
        // What failed is asked again where it can be.
        const again = live !== null && this.#kept !== null;
        if (same !== null && !("failure" in same && again)) return same;
        return simulates || this.#replayed !== database ? null : byQuery(database, engine, row);
      });
      if (found !== null) return this.#replay(found);
    }
    if (live === null || this.#kept === null) throw await this.#missing(identity, request);
    if (simulates || this.#replayed === null) return this.#ask(identity, request, row, live);
    const key = JSON.stringify([identity.name, identity.settings, row.query]);
    const shared = this.#underWay.get(key);
    if (shared !== undefined)
      // The rollout that asked may have been given up.
      return shared.catch((error: unknown) => {
        if (isFailure(error) || request.signal?.aborted === true) throw error;
        return this.#ask(identity, request, row, live);
      });
    const call = this.#ask(identity, request, row, live);
    this.#underWay.set(key, call);
    return call.finally(() => this.#underWay.delete(key));
  }

  #replay(found: Found): SearchResult {
    this.#counts = { ...this.#counts, replayed: this.#counts.replayed + 1 };
    if ("result" in found) return found.result;
    const { name, complaint } = found.failure;
    throw name === "TooLongError" ? new TooLongError(complaint) : new ServerError(complaint);
  }

  /** Asks the engine, and keeps what it says. */
  async #ask(identity: EngineIdentity, request: SimulatorRequest, row: Row, live: Live): Promise<SearchResult> {
    const database = this.#kept as Client;
    const from = this.#options.now();
    const keep = async (said: Said): Promise<void> => {
      const engine = await this.#engine(database, identity, true);
      await writing(this.#options.record ?? "", () =>
        database.execute({
          sql: "insert or replace into searches (engine, query, question, step, asked, rollout, turn, result, failure, milliseconds) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          args: [engine, ...valuesOf(row), said.result ?? null, said.failure ?? null, Math.round(this.#options.now() - from)],
        }),
      );
      this.#counts = { ...this.#counts, recorded: this.#counts.recorded + 1 };
    };
    try {
      const result = jsonOf(await live(request), `search engine ${identity.name}`);
      await keep({ result });
      // As it will be replayed.
      return JSON.parse(result) as SearchResult;
    } catch (error) {
      if (isFailure(error) && request.signal?.aborted !== true)
        await keep({ failure: JSON.stringify({ name: error.name, complaint: error.complaint }) });
      throw error;
    }
  }

  /** The number of an engine in a database; null where it is not there, and shall not be. */
  async #engine(database: Client, { name, settings }: EngineIdentity, make = false): Promise<number | null> {
    const text = JSON.stringify(settings);
    const key = JSON.stringify([database === this.#kept, name, text]);
    const find = async (): Promise<number | null> => {
      const select = { sql: "select id from engines where name = ? and settings = ?", args: [name, text] };
      const known = (await database.execute(select)).rows[0]?.["id"];
      if (known !== undefined || !make) return known === undefined ? null : Number(known);
      const insert = { sql: "insert or ignore into engines (name, settings) values (?, ?)", args: [name, text] };
      await writing(this.#options.record ?? "", () => database.execute(insert));
      return Number((await database.execute(select)).rows[0]?.["id"]);
    };
    const known = await this.#engines.get(key);
    if (known !== undefined && known !== null) return known;
    const found = find();
    this.#engines.set(key, found);
    return found;
  }

  /** What a recording lacks, and what it has instead. */
  async #missing({ name, settings }: EngineIdentity, { query, key, turn }: SimulatorRequest): Promise<DataError> {
    const { rows } = await (this.#replayed as Client).execute({
      sql: "select settings, (select count(*) from searches where engine = engines.id) as count from engines where name = ?",
      args: [name],
    });
    const own = JSON.stringify(settings);
    const same = rows.find((row) => row["settings"] === own);
    const others = rows
      .filter((row) => row !== same)
      .map((row) => `${String(row["count"])} with ${difference(JSON.parse(String(row["settings"])), settings)}`);
    const holds =
      same !== undefined
        ? `${counted(Number(same["count"]), "search", "searches")} of this engine, and not this one`
        : others.length > 0
          ? `searches of this engine with other settings: ${others.join("; ")}`
          : "no search of this engine";
    return new DataError({
      where: `search.replay=${this.#options.replay ?? ""}`,
      what: `holds no answer of ${name} to ${show(query)} (rollout ${key.step}/${key.question}/${key.rollout}, turn ${turn + 1})`,
      expected: "every search of the run",
      got: holds,
      hint: "With search.record as well, and the same file, the engine is asked for what is missing, and that is kept.",
    });
  }
}

/** Where two settings differ: `documents 3, here 5`. */
function difference(there: unknown, here: unknown): string {
  const [a, b] = [there, here].map((one) => (typeof one === "object" && one !== null ? (one as Record<string, unknown>) : {}));
  const names = [...new Set([...Object.keys(a ?? {}), ...Object.keys(b ?? {})])];
  const unequal = names.filter((name) => JSON.stringify(a?.[name]) !== JSON.stringify(b?.[name]));
  return unequal.map((name) => `${name} ${show(a?.[name])}, here ${show(b?.[name])}`).join(", ");
}

/** Whether a search has failed for good, rather than the program. */
function isFailure(error: unknown): error is ServerError | TooLongError {
  return error instanceof ServerError || error instanceof TooLongError;
}

/** @throws DataError where an engine of the user's returns what JSON cannot hold. */
function jsonOf(result: SearchResult, where: string): string {
  try {
    return JSON.stringify(result);
  } catch (cause) {
    const message = cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
    throw new DataError({ where, what: `its result cannot be recorded: ${message}`, expected: "what JSON can hold" }, { cause });
  }
}

type Live = (request: SimulatorRequest) => Promise<SearchResult>;

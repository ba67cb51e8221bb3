/**
 * A real search engine inside the process: BM25 over a corpus, in memory or in an index file (`zerosearch index`).
 * Words are stemmed (Porter), accents removed; a passage that holds any word of a query may be found.
 */
import { ConfigError, RequestError } from "../util/errors.ts";
import { nextTask } from "../util/next-task.ts";
import { Slots } from "../util/slots.ts";
import { checkCorpus } from "./corpus-hash.ts";
import { openIndex, type IndexAbout } from "./bm25/file-index.ts";
import { indexInMemory } from "./bm25/memory-index.ts";
import { rank } from "./bm25/rank.ts";
import type { IndexSource } from "./bm25/source.ts";
import { Tokenizer } from "./bm25/tokenizer.ts";
import { readPassages, type Passage } from "./passages.ts";
import type { PageRequest, SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";

export interface Bm25Hit extends Passage {
  /** Higher is better. */
  readonly score: number;
}

/** Of a query, so many distinct words are looked at, from its beginning. */
const MOST_WORDS = 1024;
/** And of those so many are searched: the rarest. */
const MOST_TERMS = 64;
/** Words whose terms are remembered. */
const REMEMBERED = 100_000;

export class Bm25Search implements SearchEngine {
  readonly name = "bm25";
  /** Passages in the index. */
  readonly size: number;
  readonly documents: number;
  /** What an index file says of itself; null in memory. */
  readonly about: IndexAbout | null;
  readonly #source: IndexSource;
  readonly #tokenizer: Tokenizer;
  readonly #terms = new Map<string, readonly string[]>();
  /** One search after the other, with a turn for timers and sockets in between: a thousand at once hold up nothing. */
  readonly #turns = new Slots(1);
  #closed = false;

  private constructor(source: IndexSource, tokenizer: Tokenizer, documents: number, about: IndexAbout | null = null) {
    this.#source = source;
    this.#tokenizer = tokenizer;
    this.size = source.lengths.each.length;
    this.documents = documents;
    this.about = about;
  }

  /** An index in memory. @throws ConfigError for a wrong number of documents, DataError for no passages. */
  static async inMemory(passages: Iterable<Passage> | AsyncIterable<Passage>, documents: number): Promise<Bm25Search> {
    return withTokenizer(documents, async (tokenizer) => new Bm25Search(await indexInMemory(passages, tokenizer), tokenizer, documents));
  }

  /** An index in memory over a corpus file. @throws as `readPassages` and `inMemory`. */
  static async fromCorpus(corpusPath: string, documents: number): Promise<Bm25Search> {
    return Bm25Search.inMemory(readPassages(corpusPath), documents);
  }

  /**
   * An index file, which is only read and may be searched by several programs.
   * @param corpusPath - the file that it must have been made of, where that is told
   * @throws ConfigError for a wrong number of documents, FileError as `openIndex`, and for an index of another corpus.
   */
  static async fromIndex(file: string, documents: number, corpusPath: string | null = null): Promise<Bm25Search> {
    return withTokenizer(documents, async (tokenizer) => {
      const { source, about } = await openIndex(file);
      try {
        if (corpusPath !== null) await checkCorpus(file, about, corpusPath);
      } catch (error) {
        source.close();
        throw error;
      }
      return new Bm25Search(source, tokenizer, documents, about);
    });
  }

  /**
   * The best passages for a text, best first; equal scores in corpus order. None when the text has no word or no passage matches. Of a text with more
   * than 64 words in the index, the 64 rarest count; what follows its first 1,024 distinct words is not looked at.
   */
  async find(text: string, documents: number = this.documents, signal?: AbortSignal): Promise<Bm25Hit[]> {
    checkDocuments(documents);
    return this.#turns.run(() => this.#find(text, documents), signal);
  }

  async search({ query, signal }: SearchRequest): Promise<SearchResult> {
    return { documents: await this.find(query, this.documents, signal), kind: "real" };
  }

  /** The passage with that id. */
  async page({ address, signal }: PageRequest): Promise<Passage | null> {
    return this.#turns.run(async () => {
      const number = await this.#source.numberOf(address);
      return number === null ? null : ((await this.#source.passages([number]))[0] ?? null);
    }, signal);
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#source.close();
    this.#tokenizer.close();
    return Promise.resolve();
  }

  async #find(text: string, documents: number): Promise<Bm25Hit[]> {
    if (this.#closed) throw new RequestError({ where: "bm25", what: "the engine is closed" });
    const terms = await this.#rarest(await this.#termsOf(wordsOf(text)));
    if (terms.length === 0) return [];
    const best = rank(await this.#source.lists(terms), this.#source.lengths, documents);
    const passages = await this.#source.passages(best.map(({ doc }) => doc));
    await nextTask();
    return passages.map((passage, i) => ({ ...passage, score: best[i]?.score ?? 0 }));
  }

  /** In the order of words; two words of one stem give it twice. */
  async #termsOf(words: readonly string[]): Promise<string[]> {
    if (this.#terms.size > REMEMBERED) this.#terms.clear();
    const known = new Map(words.map((word) => [word, this.#terms.get(word)]));
    const asked = words.filter((word) => known.get(word) === undefined);
    const found = asked.length === 0 ? [] : await this.#tokenizer.terms(asked);
    for (const [i, word] of asked.entries()) {
      known.set(word, found[i]);
      this.#terms.set(word, found[i] as string[]);
    }
    return words.flatMap((word) => known.get(word) ?? []);
  }

  async #rarest(terms: readonly string[]): Promise<readonly string[]> {
    if (terms.length <= MOST_TERMS) return terms;
    const counts = await this.#source.counts(terms);
    const places = terms.map((_, place) => place).filter((place) => (counts[place] as number) > 0);
    const rarest = places.sort((one, other) => (counts[one] as number) - (counts[other] as number) || one - other).slice(0, MOST_TERMS);
    return rarest.sort((one, other) => one - other).map((place) => terms[place] as string);
  }
}

async function withTokenizer(documents: number, open: (tokenizer: Tokenizer) => Promise<Bm25Search>): Promise<Bm25Search> {
  checkDocuments(documents);
  const tokenizer = await Tokenizer.open();
  try {
    return await open(tokenizer);
  } catch (error) {
    tokenizer.close();
    throw error;
  }
}

/** Distinct words of a query, at most `MOST_WORDS`: nothing in it is syntax. */
export function wordsOf(query: string): string[] {
  const words = new Set<string>();
  for (const [word] of query.toLowerCase().matchAll(/[\p{L}\p{N}\p{M}\p{Co}]+/gu)) {
    words.add(word);
    if (words.size === MOST_WORDS) break;
  }
  return [...words];
}

function checkDocuments(documents: number): void {
  if (!Number.isInteger(documents) || documents < 1)
    throw new ConfigError({ where: "bm25.documents", what: "wrong number of documents", expected: "1 or more", got: String(documents) });
}

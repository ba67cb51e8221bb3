/** An index file, opened to be searched: lists are read when they are asked for, and those asked for last are kept. */
import type { Client } from "@libsql/client";
import type { Passage } from "../passages.ts";
import { asBytes, asNumber, asReal, bytesIn, checkSum, isMarked, sumOfBytes, sumOfText, sumOfWord, textIn } from "../checksum.ts";
import { DamagedRow } from "../damage.ts";
import { damaged, numberOfPassage, openWhole, readError } from "../index-file.ts";
import { bm25Index, readAbout, type IndexAbout } from "./format.ts";
import { averageOf } from "./memory-index.ts";
import { bucketOf } from "./parts.ts";
import { decodeList, type Lengths, type Postings } from "./postings.ts";
import { noPostings, type IndexSource } from "./source.ts";

export type { IndexAbout } from "./format.ts";

const headColumns = `${asBytes("term")}, ${asNumber("count")}, ${asReal("best")}, ${asNumber("head")}`;

type Row = Awaited<ReturnType<Client["execute"]>>["rows"][number];

/** Bytes of lists that are kept. */
const KEPT = 256 * 2 ** 20;

/** Opens an index, which is not written to. @throws FileError where it is none, unfinished, damaged, or of another version. */
export async function openIndex(file: string): Promise<{ readonly source: IndexSource; readonly about: IndexAbout }> {
  return openWhole(file, bm25Index, readAbout, async (client, about) => {
    const each = await readLengths(client);
    if (each.length !== about.passages) throw damaged(file, `${each.length} lengths of ${about.passages} passages`);
    return { source: new FileIndex(file, client, { each, average: averageOf(each) }), about };
  });
}

/** SHA-256 of the corpus that an index is of. @throws as `openIndex` */
export async function indexedCorpus(file: string): Promise<string> {
  const { source, about } = await openIndex(file);
  source.close();
  return about.sha256;
}

/** Of all passages. @throws RangeError where they are damaged */
export async function readLengths(client: Client): Promise<Uint32Array> {
  const { rows } = await client.execute(`select ${asNumber("part")}, ${asBytes("list")}, ${asNumber("sum")} from lengths order by 1`);
  const parts = rows.map((row) => {
    const bytes = bytesIn(row["list"], "a list of lengths");
    checkSum("a list of lengths", sumOfBytes(Number(row["part"]), bytes), row["sum"]);
    return wordsIn(bytes);
  });
  const all = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function wordsIn(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

class FileIndex implements IndexSource {
  readonly lengths: Lengths;
  readonly #file: string;
  readonly #client: Client;
  /** Those used last come last. */
  readonly #lists = new Map<string, Promise<Postings>>();
  readonly #bytes = new Map<string, number>();
  #kept = 0;
  /** Of the buckets in which something was missed. */
  readonly #marks = new Map<number, Promise<Uint32Array>>();

  constructor(file: string, client: Client, lengths: Lengths) {
    this.#file = file;
    this.#client = client;
    this.lengths = lengths;
  }

  async counts(terms: readonly string[]): Promise<number[]> {
    const all = [...new Set(terms)];
    const rows = await this.#select(`select ${headColumns} from words where term in`, all);
    const counts = new Map(rows.map((row) => this.#checkedHead(row)));
    await this.#checkMissing(all.filter((term) => !counts.has(term)));
    return terms.map((term) => counts.get(term) ?? 0);
  }

  async lists(terms: readonly string[]): Promise<Postings[]> {
    const missing = [...new Set(terms)].filter((term) => !this.#lists.has(term));
    if (missing.length > 0) {
      const read = this.#read(missing);
      for (const term of missing) {
        const one = read.then((lists) => lists.get(term) ?? noPostings);
        // Who asks is told; what failed is asked for again.
        one.catch(() => this.#lists.delete(term));
        this.#lists.set(term, one);
      }
    }
    const found = terms.map((term) => {
      const list = this.#lists.get(term) as Promise<Postings>;
      this.#lists.delete(term);
      this.#lists.set(term, list);
      return list;
    });
    const lists = await Promise.all(found);
    this.#forget();
    return lists;
  }

  async passages(docs: readonly number[]): Promise<Passage[]> {
    const rows = await this.#select(`select n, ${asBytes("row")}, ${asNumber("sum")} from passages where n in`, docs);
    const found = new Map(rows.map((row) => [Number(row["n"]), row]));
    return docs.map((doc) => {
      try {
        const row = found.get(doc);
        const text = textIn(row?.["row"], `passage ${doc}`);
        checkSum(`passage ${doc}`, sumOfText(doc, text), row?.["sum"]);
        const [id, title, body] = JSON.parse(text) as [string, string | null, string];
        return { id, ...(title === null ? {} : { title }), text: body };
      } catch (cause) {
        throw damaged(this.#file, cause);
      }
    });
  }

  numberOf(id: string): Promise<number | null> {
    return numberOfPassage(this.#file, this.#client, id);
  }

  close(): void {
    this.#client.close();
  }

  async #read(terms: readonly string[]): Promise<Map<string, Postings>> {
    const rows = await this.#select(`select ${headColumns}, ${asNumber("sum")}, ${asBytes("list")} from words where term in`, terms);
    const lists = new Map<string, Postings>();
    for (const row of rows) {
      const [term, count] = this.#checkedHead(row);
      const what = `the list of ${JSON.stringify(term)}`;
      try {
        const bytes = bytesIn(row["list"], what);
        checkSum(what, sumOfBytes(term, bytes), row["sum"]);
        const [docs, counts] = [new Uint32Array(count), new Uint32Array(count)];
        const found = decodeList(bytes, docs, counts);
        const beyond = count > 0 && (docs[count - 1] as number) >= this.lengths.each.length;
        if (found !== count || beyond) throw new RangeError(`${what} does not fit`);
        lists.set(term, { docs, counts, best: Number(row["best"]) });
      } catch (cause) {
        throw readError(this.#file, cause);
      }
    }
    await this.#checkMissing(terms.filter((term) => !lists.has(term)));
    for (const term of terms) {
      const bytes = 200 + 8 * (lists.get(term)?.docs.length ?? 0);
      this.#bytes.set(term, bytes);
      this.#kept += bytes;
    }
    return lists;
  }

  /** A row's term, and how many passages hold it. */
  #checkedHead(row: Row): [string, number] {
    try {
      const term = textIn(row["term"], "a term");
      const [count, best] = [Number(row["count"]), Number(row["best"])];
      checkSum(`the row of ${JSON.stringify(term)}`, sumOfWord(term, count, best), row["head"]);
      return [term, count];
    } catch (cause) {
      throw damaged(this.#file, cause);
    }
  }

  /** @throws FileError where a term that was not found is one that the index has */
  async #checkMissing(terms: readonly string[]): Promise<void> {
    for (const term of terms) {
      const bucket = bucketOf(term);
      let marks = this.#marks.get(bucket);
      if (marks === undefined) {
        marks = this.#readMarks(bucket);
        this.#marks.set(bucket, marks);
        marks.catch(() => this.#marks.delete(bucket));
      }
      if (isMarked(await marks, term)) throw damaged(this.#file, new DamagedRow(`the row of ${JSON.stringify(term)}`));
    }
  }

  async #readMarks(bucket: number): Promise<Uint32Array> {
    const [row] = await this.#select(`select ${asBytes("list")}, ${asNumber("sum")} from marks where bucket in`, [bucket]);
    try {
      const bytes = bytesIn(row?.["list"], "a list of marks");
      checkSum("a list of marks", sumOfBytes(bucket, bytes), row?.["sum"]);
      return wordsIn(bytes);
    } catch (cause) {
      throw damaged(this.#file, cause);
    }
  }

  #forget(): void {
    for (const term of this.#lists.keys()) {
      if (this.#kept <= KEPT) return;
      const bytes = this.#bytes.get(term);
      if (bytes === undefined) continue;
      this.#kept -= bytes;
      this.#bytes.delete(term);
      this.#lists.delete(term);
    }
  }

  async #select(sql: string, args: readonly (string | number)[]): Promise<readonly Row[]> {
    if (args.length === 0) return [];
    try {
      return (await this.#client.execute({ sql: `${sql} (${args.map(() => "?").join(", ")})`, args: [...args] })).rows;
    } catch (cause) {
      throw readError(this.#file, cause);
    }
  }
}

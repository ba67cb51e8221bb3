/**
 * Text as terms, by SQLite's own tokenizer: letters and digits of any script, accents removed, English words stemmed (Porter).
 * SQLite says what the terms of a piece of text are; each piece is asked for once, and remembered.
 */
import type { Client } from "@libsql/client";
import { openDatabase } from "../sqlite.ts";

/** FTS5's name for it. An index holds it, and is read by the same only. */
export const tokenizerName = "porter unicode61 remove_diacritics 2";

/** What lies between ASCII characters that no term contains. A piece may still hold several terms, or none. */
const PIECE = /[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+/g;
/** Pieces of one statement. */
const BATCH = 2000;

export function piecesOf(text: string): readonly string[] {
  return text.match(PIECE) ?? [];
}

export class Tokenizer {
  readonly #client: Client;
  /** One batch at a time: they share a table. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(client: Client) {
    this.#client = client;
  }

  static async open(): Promise<Tokenizer> {
    const client = await openDatabase("bm25", null);
    await client.execute(`create virtual table pieces using fts5(piece, content = '', columnsize = 0, tokenize = '${tokenizerName}')`);
    await client.execute("create virtual table terms using fts5vocab(pieces, instance)");
    return new Tokenizer(client);
  }

  /** The terms of each piece, a term as often as it occurs, in no order. */
  terms(pieces: readonly string[]): Promise<string[][]> {
    const made = this.#last.then(() => this.#make(pieces));
    this.#last = made.catch(() => undefined);
    return made;
  }

  async #make(pieces: readonly string[]): Promise<string[][]> {
    const found: string[][] = pieces.map(() => []);
    for (let from = 0; from < pieces.length; from += BATCH) {
      const part = pieces.slice(from, from + BATCH);
      const values = part.map((_, i) => `(${i}, ?)`).join(", ");
      await this.#client.execute({ sql: `insert into pieces (rowid, piece) values ${values}`, args: part });
      for (const row of (await this.#client.execute("select term, doc from terms")).rows)
        found[from + Number(row["doc"])]?.push(String(row["term"]));
      await this.#client.execute("insert into pieces (pieces) values ('delete-all')");
    }
    return found;
  }

  close(): void {
    this.#client.close();
  }
}

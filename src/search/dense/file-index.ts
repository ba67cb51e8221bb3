/** An index file of embeddings, opened to be searched. */
import type { Client } from "@libsql/client";
import { asBytes, asNumber, textIn } from "../checksum.ts";
import { damaged, numberOfPassage, openWhole, readError } from "../index-file.ts";
import type { Passage } from "../passages.ts";
import { denseIndex, passageOf, readAbout, sumOf, type DenseAbout } from "./format.ts";

/** Embeddings as they are kept: those of passages from `first` on. */
export interface VectorPart {
  readonly first: number;
  readonly values: Float32Array | Uint16Array;
}

export class DenseFile {
  readonly about: DenseAbout;
  readonly #file: string;
  readonly #client: Client;

  private constructor(file: string, client: Client, about: DenseAbout) {
    this.#file = file;
    this.#client = client;
    this.about = about;
  }

  /** Opens an index, which is not written to. @throws FileError where it is none, unfinished, damaged, or of another version. */
  static open(file: string): Promise<DenseFile> {
    return openWhole(file, denseIndex, readAbout, (client, about) => new DenseFile(file, client, about));
  }

  /** All embeddings, part by part. @throws FileError where one is damaged or missing */
  async *vectors(): AsyncGenerator<VectorPart> {
    const { passages, width, parts, dtype } = this.about;
    let next = 0;
    for (let part = 0; part < parts; part++) {
      const row = (
        await this.#rows(`select ${asNumber("first")}, ${asBytes("list")}, ${asBytes("sum")} from vectors where part = ?`, [part])
      )[0];
      const list = row?.["list"];
      if (!(list instanceof ArrayBuffer) || Number(row?.["first"]) !== next)
        throw damaged(this.#file, `part ${part} of its embeddings is missing`);
      if (sumOf(new Uint8Array(list)) !== this.#text(row?.["sum"], `the sum of part ${part}`))
        throw damaged(this.#file, `part ${part} of its embeddings is not what was written`);
      const values = dtype === "f32" ? new Float32Array(list) : new Uint16Array(list);
      if (values.length % width !== 0) throw damaged(this.#file, `part ${part} of its embeddings is cut`);
      yield { first: next, values };
      next += values.length / width;
    }
    if (next !== passages) throw damaged(this.#file, `${next} embeddings of ${passages} passages`);
  }

  /** @throws FileError where one is damaged or missing */
  async passages(numbers: readonly number[]): Promise<Passage[]> {
    if (numbers.length === 0) return [];
    const marks = numbers.map(() => "?").join(", ");
    const rows = await this.#rows(
      `select ${asNumber("n")}, ${asBytes("row")}, ${asBytes("sum")} from passages where n in (${marks})`,
      numbers,
    );
    const texts = new Map(rows.map((row) => [Number(row["n"]), row]));
    return numbers.map((number) => {
      const row = texts.get(number);
      const what = `passage ${number}`;
      const text = this.#text(row?.["row"], what);
      if (sumOf(text) !== this.#text(row?.["sum"], what)) throw damaged(this.#file, `${what} is not what was written`);
      return passageOf(text);
    });
  }

  /** As `numberOfPassage`. */
  numberOf(id: string): Promise<number | null> {
    return numberOfPassage(this.#file, this.#client, id);
  }

  close(): void {
    this.#client.close();
  }

  #text(value: unknown, what: string): string {
    try {
      return textIn(value, what);
    } catch {
      throw damaged(this.#file, `${what} is not what was written`);
    }
  }

  async #rows(sql: string, args: readonly number[]): Promise<Awaited<ReturnType<Client["execute"]>>["rows"]> {
    try {
      return (await this.#client.execute({ sql, args: [...args] })).rows;
    } catch (cause) {
      throw readError(this.#file, cause);
    }
  }
}

/** What an index says of itself. @throws as `DenseFile.open` */
export async function readDenseAbout(file: string): Promise<DenseAbout> {
  const index = await DenseFile.open(file);
  index.close();
  return index.about;
}

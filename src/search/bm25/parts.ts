/**
 * What of an unfinished index waits to be merged: the lists of some passages in a row are a part, and its terms lie in buckets, so that one bucket of all parts
 * fits into memory.
 */
import type { Client } from "@libsql/client";
import { bytesIn, checkSum, sumOfBytes } from "../checksum.ts";
import type { InvertedPart } from "./inverter.ts";
import { ByteReader, ByteWriter, bestShare, decodeList, encodeList, type Lengths, type Postings } from "./postings.ts";
import { openDatabase } from "../sqlite.ts";

export const buckets = 256;

export class Parts {
  readonly #client: Client;

  private constructor(client: Client) {
    this.#client = client;
  }

  /** Opens the file, makes it where it is missing, and drops the parts that are not among the first `kept`. */
  static async open(file: string, kept: number): Promise<Parts> {
    const client = await openDatabase("bm25", file);
    try {
      await client.execute(
        "create table if not exists parts (bucket integer, part integer, body blob, sum integer, primary key (bucket, part)) without rowid",
      );
      await client.execute({ sql: "delete from parts where part >= ?", args: [kept] });
      return new Parts(client);
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** How many parts there are. */
  async count(): Promise<number> {
    return Number((await this.#client.execute("select count(distinct part) as n from parts")).rows[0]?.["n"]);
  }

  async write(part: number, { terms, starts, docs, counts }: InvertedPart): Promise<void> {
    const bodies = Array.from({ length: buckets }, () => new ByteWriter(1024));
    const encoder = new TextEncoder();
    for (const [i, term] of terms.entries()) {
      const [from, to] = [starts[i] as number, starts[i + 1] as number];
      if (from === to) continue;
      const body = bodies[bucketOf(term)] as ByteWriter;
      body.bytes(encoder.encode(term));
      body.number(to - from);
      body.bytes(encodeList(docs.subarray(from, to), counts.subarray(from, to)));
    }
    const sql = "insert into parts (bucket, part, body, sum) values (?, ?, ?, ?)";
    await this.#client.batch(
      bodies.map((one, bucket) => {
        const body = one.take();
        return { sql, args: [bucket, part, body, sumOfBytes(`${bucket} ${part}`, body)] };
      }),
      "write",
    );
  }

  /** The lists of a bucket over all parts. @throws RangeError where they are damaged */
  async merged(bucket: number, lengths: Lengths): Promise<Map<string, Postings>> {
    const { rows } = await this.#client.execute({
      sql: "select part, body, sum from parts where bucket = ? order by part",
      args: [bucket],
    });
    const pieces = new Map<string, { readonly count: number; readonly list: Uint8Array }[]>();
    const decoder = new TextDecoder();
    for (const row of rows) {
      const body = bytesIn(row["body"], "a part");
      checkSum("a part", sumOfBytes(`${bucket} ${Number(row["part"])}`, body), row["sum"]);
      const reader = new ByteReader(body);
      while (!reader.ended) {
        const term = decoder.decode(reader.bytes());
        const piece = { count: reader.number(), list: reader.bytes() };
        const others = pieces.get(term);
        if (others === undefined) pieces.set(term, [piece]);
        else others.push(piece);
      }
    }
    const lists = new Map<string, Postings>();
    for (const [term, parts] of pieces) {
      const count = parts.reduce((sum, one) => sum + one.count, 0);
      const [docs, counts] = [new Uint32Array(count), new Uint32Array(count)];
      let at = 0;
      for (const { list } of parts) at += decodeList(list, docs, counts, at);
      lists.set(term, { docs, counts, best: bestShare(docs, counts, lengths) });
    }
    return lists;
  }

  close(): void {
    this.#client.close();
  }
}

/** FNV-1a. */
export function bucketOf(term: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < term.length; i++) hash = Math.imul(hash ^ term.charCodeAt(i), 0x01000193);
  return (hash ^ (hash >>> 16)) & (buckets - 1);
}

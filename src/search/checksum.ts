/** Check sums of what an index file holds: CRC-32 of each row, and of each bucket of terms marks that tell a term that is missing from one that is not there. */
import { DamagedRow } from "./damage.ts";

/** Of the polynomial of zip and PNG, reflected: one table for each of four bytes, so that a word is looked up at once. */
const tables = makeTables();

function makeTables(): readonly Uint32Array[] {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    return crc >>> 0;
  });
  const all = [first];
  for (let i = 1; i < 4; i++) {
    const last = all[i - 1] as Uint32Array;
    all.push(last.map((crc) => (first[crc & 255] as number) ^ (crc >>> 8)));
  }
  return all;
}

/** @param from - the CRC of what comes before */
export function crc32(bytes: Uint8Array, from = 0): number {
  const [t0, t1, t2, t3] = tables as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  let crc = ~from;
  let i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc = t3[crc & 255]! ^ t2[(crc >>> 8) & 255]! ^ t1[(crc >>> 16) & 255]! ^ t0[crc >>> 24]!;
  }
  for (; i < bytes.length; i++) crc = t0[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Of a row that is text, with the number it goes by. */
export function sumOfText(key: number | string, text: string): number {
  return crc32(encoder.encode(`${key}\0${text}`));
}

/** Of a row that is bytes. */
export function sumOfBytes(key: number | string, bytes: Uint8Array): number {
  return crc32(bytes, crc32(encoder.encode(`${key}\0`)));
}

/** Of what a term's row says besides its list. */
export function sumOfWord(term: string, count: number, best: number): number {
  return sumOfText(term, `${count} ${best}`);
}

/** @throws DamagedRow where a row does not have the sum that is kept with it */
export function checkSum(what: string, sum: number, kept: unknown): void {
  if (kept !== sum) throw new DamagedRow(what);
}

/** Bytes of a row. @throws DamagedRow where there are none */
export function bytesIn(value: unknown, what: string): Uint8Array {
  if (!(value instanceof ArrayBuffer)) throw new DamagedRow(what);
  return new Uint8Array(value);
}

/** A text of a row, selected `asBytes`. @throws DamagedRow where it is none */
export function textIn(value: unknown, what: string): string {
  const bytes = bytesIn(value, what);
  try {
    return decoder.decode(bytes);
  } catch {
    throw new DamagedRow(what);
  }
}

/**
 * How columns are selected: whatever damage has made of them, they come as bytes, as a whole number or as a real one. The library ends the whole program
 * at a text that is not UTF-8.
 */
export const asBytes = (column: string): string => `cast(${column} as blob) as ${column}`;
export const asNumber = (column: string): string => `cast(${column} as integer) as ${column}`;
export const asReal = (column: string): string => `cast(${column} as real) as ${column}`;

/** Two words that stand for a term: of a million terms two have the same with a probability of 3e-8. */
function markOf(term: string): readonly [number, number] {
  let [a, b] = [0x9e3779b1, 0x85ebca77];
  for (let i = 0; i < term.length; i++) {
    const unit = term.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x9e3779b1);
    b = Math.imul(b ^ unit, 0xc2b2ae3d);
    a ^= a >>> 15;
    b ^= b >>> 13;
  }
  return [Math.imul(a ^ (b >>> 16), 0x85ebca6b) >>> 0, Math.imul(b ^ (a >>> 15), 0xc2b2ae35) >>> 0];
}

/** Of the terms of a bucket, ascending. */
export function marksOf(terms: Iterable<string>): Uint32Array {
  const marks = [...terms].map(markOf).sort(([a, b], [c, d]) => a - c || b - d);
  return Uint32Array.from(marks.flat());
}

export function isMarked(marks: Uint32Array, term: string): boolean {
  const [a, b] = markOf(term);
  let [low, high] = [0, marks.length / 2];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const [c, d] = [marks[2 * middle] as number, marks[2 * middle + 1] as number];
    if (a === c && b === d) return true;
    if (c < a || (c === a && d < b)) low = middle + 1;
    else high = middle;
  }
  return false;
}

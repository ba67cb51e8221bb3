import { DataError } from "../util/errors.ts";

/** Entries of one `Map`: V8 allows 2^24, and corpora have more passages than that. */
const MOST = 2 ** 23;

/** Ids that occurred, with their places; each may occur once. */
export class SeenIds {
  readonly #maps: Map<string, number | string>[] = [new Map<string, number | string>()];

  /**
   * @param place - what an error says of its first place: a row's number, or more
   * @param name - the id as people know it, for errors
   * @throws DataError where it occurred before
   */
  add(id: string, place: number | string, where: string, name = id): void {
    const first = this.#maps.find((map) => map.has(id))?.get(id);
    if (first !== undefined)
      throw new DataError({
        where,
        what: "duplicate id",
        expected: "an id that occurs once",
        got: `${JSON.stringify(name)}, also in ${typeof first === "number" ? `row ${first}` : first}`,
      });
    let last = this.#maps.at(-1) as Map<string, number | string>;
    if (last.size >= MOST) this.#maps.push((last = new Map<string, number | string>()));
    last.set(id, place);
  }
}

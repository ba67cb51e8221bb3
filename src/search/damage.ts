/** A row of an index that is not as it was written. */
export class DamagedRow extends RangeError {
  constructor(what: string) {
    super(`${what} is not as it was written`);
    this.name = "DamagedRow";
  }
}

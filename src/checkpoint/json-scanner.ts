/**
 * A strict reader of JSON text that nobody vouches for: it builds only what the caller asks for, refuses a name that comes twice in one
 * object (`JSON.parse` keeps the last in silence), and tells where each value lies.
 *
 * Source: RFC 8259. Like serde_json, which reads safetensors headers elsewhere: 128 levels at most, and no lone surrogates.
 */
import { FileError } from "../util/errors.ts";

const MAX_DEPTH = 128;
const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const word = /true|false|null/y;

/** At most 60 characters of a text from outside, for a message. */
export function clip(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

export class JsonScanner {
  /** Of the next character. */
  at = 0;
  readonly #text: string;
  readonly #where: string;
  readonly #subject: string;

  /** Errors say `where: subject is not JSON, at character ...`. */
  constructor(text: string, where: string, subject: string) {
    this.#text = text;
    this.#where = where;
    this.#subject = subject;
  }

  /** The first character of the next value; "" at the end. */
  peek(): string {
    this.#space();
    return this.#text.charAt(this.at);
  }

  /** Reads an object. `field` is called at each value and must read it. @throws FileError for a name that comes twice */
  object(field: (name: string) => void): void {
    const seen = new Set<string>();
    this.#expect("{");
    if (this.#take("}")) return;
    do {
      const name = this.string();
      if (seen.has(name)) this.#fail(`the name "${clip(name)}" comes twice`);
      seen.add(name);
      this.#expect(":");
      this.#space();
      field(name);
    } while (this.#take(","));
    this.#expect("}");
  }

  /** Reads a list. `item` is called at each value and must read it. */
  list(item: (index: number) => void): void {
    this.#expect("[");
    if (this.#take("]")) return;
    let index = 0;
    do {
      this.#space();
      item(index++);
    } while (this.#take(","));
    this.#expect("]");
  }

  string(): string {
    if (this.peek() !== '"') this.#fail("a text in quotes is missing");
    const text = this.#text;
    const start = this.at;
    let escaped = false;
    for (let i = start + 1; ; i++) {
      const code = text.charCodeAt(i);
      if (code === 34) {
        this.at = i + 1;
        break;
      }
      // At the end of the text the code is NaN.
      if (!(code >= 32)) this.#fail("a text does not end, or holds a control character");
      if (code === 92) {
        escaped = true;
        i += 1;
      }
    }
    const raw = text.slice(start, this.at);
    if (!escaped) return raw.slice(1, -1);
    let value: unknown;
    try {
      value = JSON.parse(raw);
    } catch {
      this.at = start;
      this.#fail("a text has a wrong escape");
    }
    if (typeof value !== "string" || /\p{Cs}/u.test(value)) this.#fail("a text has half of a surrogate pair");
    return value;
  }

  /** The characters of a number, as they stand. */
  number(): string {
    return this.#match(number, "a number is missing");
  }

  /** Reads any value and keeps nothing. */
  skip(depth = 0): void {
    if (depth > MAX_DEPTH) this.#fail(`more than ${MAX_DEPTH} levels`);
    const next = this.peek();
    if (next === "{") {
      // Names are not compared: nobody reads them.
      this.#expect("{");
      if (this.#take("}")) return;
      do {
        this.string();
        this.#expect(":");
        this.skip(depth + 1);
      } while (this.#take(","));
      this.#expect("}");
    } else if (next === "[")
      this.list(() => {
        this.skip(depth + 1);
      });
    else if (next === '"') this.string();
    else if (/[-0-9]/.test(next)) this.number();
    else this.#match(word, "a value is missing");
  }

  /** @throws FileError unless only white space is left. */
  end(): void {
    if (this.peek() !== "") this.#fail("something follows the value");
  }

  #match(pattern: RegExp, missing: string): string {
    this.#space();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) this.#fail(missing);
    this.at += found.length;
    return found;
  }

  #take(character: string): boolean {
    if (this.peek() !== character) return false;
    this.at += 1;
    return true;
  }

  #expect(character: string): void {
    if (!this.#take(character)) this.#fail(`"${character}" is missing`);
  }

  #space(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.at);
      if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return;
      this.at += 1;
    }
  }

  #fail(what: string): never {
    const near = this.#text.slice(this.at, this.at + 20);
    throw new FileError({
      where: this.#where,
      what: `${this.#subject} is not JSON, at character ${this.at}: ${what}`,
      got: near === "" ? "the end" : JSON.stringify(near),
      hint: "the file is damaged, or of another kind",
    });
  }
}

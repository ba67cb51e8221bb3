/**
 * From the files of kernels/wgsl/ to text that compiles. Files are WGSL with a few lines and marks of their own, which are resolved for one
 * specialisation, so that what a kernel holds in registers stands there as variables with names: an array that a loop indexes lies in
 * memory unless the driver's compiler unrolls the loop.
 *
 *   #include lib/half           the lines of kernels/wgsl/lib/half.wgsl, once a module
 *   #include lib/store SUMS=dk  the same wherever it stands, with dk for ${SUMS}
 *   #repeat i COUNT ... #end    the lines COUNT times, with i = 0, 1, 2 ...
 *   #if CONDITION ... #else ... #end
 *   ${EXPRESSION}               its value, in any line: `sum${i}`
 *
 * An expression has whole numbers, + - * / % ( ), comparisons, && || !, select, min, max; the prologue's constants, the counters around
 * it, and `const NAME = ...;` lines of the file whose right side is such an expression. Division rounds down, as WGSL's does.
 */
import { DeviceError } from "../../util/errors.ts";

/** A line of a module, and where it was written. */
export interface TextLine {
  readonly text: string;
  /** Stem of the file. */
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
}

export type Constants = Readonly<Record<string, number | boolean>>;

/** @param sources texts by stem @throws DeviceError that names file and line where a directive or an expression is wrong */
export function expandWgsl(stem: string, sources: ReadonlyMap<string, string>, constants: Constants = {}): TextLine[] {
  const text = sources.get(stem);
  if (text === undefined) throw new DeviceError({ where: `kernel ${stem}`, what: `kernels/wgsl/${stem}.wgsl was not loaded` });
  const expansion = new Expansion(sources, constants);
  expansion.file(stem, text);
  return expansion.out;
}

/** Names with values, inner ones first: of a counter a number, of what an include was given a word. */
interface Scope {
  readonly name: string;
  readonly value: number | string;
  readonly outer: Scope | null;
}

class Expansion {
  readonly out: TextLine[] = [];
  readonly #sources: ReadonlyMap<string, string>;
  readonly #values = new Map<string, number>();
  /** Right sides of the files' own constants. */
  readonly #definitions = new Map<string, string>();
  readonly #included = new Set<string>();

  constructor(sources: ReadonlyMap<string, string>, constants: Constants) {
    this.#sources = sources;
    for (const [name, value] of Object.entries(constants)) this.#values.set(name, Number(value));
  }

  /** @param scope what is known inside it */
  file(stem: string, text: string, scope: Scope | null = null): void {
    this.#included.add(stem);
    const lines = text.endsWith("\n") ? text.slice(0, -1).split("\n") : text.split("\n");
    for (const line of lines) {
      const [, name, value] = /^const (\w+)(?:: *[ui]32)? *= *([^;]+);/.exec(line) ?? [];
      if (name !== undefined && value !== undefined && !this.#definitions.has(name)) this.#definitions.set(name, value);
    }
    this.#block(stem, lines, 0, lines.length, scope);
  }

  /** Lines [from, to) of a file. */
  #block(file: string, lines: readonly string[], from: number, to: number, scope: Scope | null): void {
    for (let at = from; at < to; at++) {
      const text = lines[at]!;
      const [, word, rest = ""] = /^\s*#(\w+)\s*(.*?)\s*$/.exec(text) ?? [];
      if (word === undefined) {
        this.out.push({ text: this.#filled(text, file, at, scope), file, line: at + 1 });
        continue;
      }
      if (word === "include") this.#include(rest, file, at, scope);
      else if (word === "repeat" || word === "if") {
        const { middle, end } = bounds(lines, at, to, file);
        if (word === "if") {
          const taken = this.#evaluate(rest, file, at, scope) !== 0;
          if (taken) this.#block(file, lines, at + 1, middle, scope);
          else if (middle < end) this.#block(file, lines, middle + 1, end, scope);
        } else {
          const [, name, count] = /^(\w+)\s+(.+)$/.exec(rest) ?? [];
          if (name === undefined || count === undefined || middle < end)
            throw fault(file, at, "#repeat is wrong", "#repeat NAME COUNT ... #end");
          const times = this.#evaluate(count, file, at, scope);
          for (let value = 0; value < times; value++) this.#block(file, lines, at + 1, end, { name, value, outer: scope });
        }
        at = end;
      } else throw fault(file, at, `#${word} stands alone or is unknown`, "#include, #repeat, #if, #else, #end");
    }
  }

  #include(rest: string, file: string, at: number, scope: Scope | null): void {
    const [stem = "", ...given] = rest.split(/\s+/);
    if (given.length === 0 && this.#included.has(stem)) return;
    const text = this.#sources.get(stem);
    if (text === undefined) throw fault(file, at, `kernels/wgsl/${stem}.wgsl was not loaded`);
    let inner = scope;
    for (const one of given) {
      const [, name, value] = /^(\w+)=(\w+)$/.exec(one) ?? [];
      if (name === undefined || value === undefined) throw fault(file, at, `${one} is wrong`, "NAME=word");
      inner = { name, value, outer: inner };
    }
    this.file(stem, text, inner);
  }

  #filled(text: string, file: string, at: number, scope: Scope | null): string {
    if (!text.includes("${")) return text;
    return text.replace(/\$\{([^}]*)\}/g, (_, expression: string) => {
      const word = lookUp(expression.trim(), scope);
      return typeof word === "string" ? word : String(this.#evaluate(expression, file, at, scope));
    });
  }

  #evaluate(expression: string, file: string, at: number, scope: Scope | null): number {
    try {
      return evaluate(expression, (name) => this.#value(name, scope));
    } catch (cause) {
      throw fault(file, at, `${cause instanceof Error ? cause.message : String(cause)} in ${expression}`);
    }
  }

  #value(name: string, scope: Scope | null): number {
    const inner = lookUp(name, scope);
    if (typeof inner === "string") throw new Error(`${name} is a word`);
    if (inner !== undefined) return inner;
    const known = this.#values.get(name);
    if (known !== undefined) return known;
    const definition = this.#definitions.get(name);
    if (definition === undefined) throw new Error(`${name} is unknown`);
    const value = evaluate(definition, (inner) => this.#value(inner, null));
    this.#values.set(name, value);
    return value;
  }
}

function lookUp(name: string, scope: Scope | null): number | string | undefined {
  for (let one = scope; one !== null; one = one.outer) if (one.name === name) return one.value;
  return undefined;
}

function fault(file: string, at: number, what: string, expected?: string): DeviceError {
  return new DeviceError({ where: `kernels/wgsl/${file}.wgsl:${at + 1}`, what, ...(expected === undefined ? {} : { expected }) });
}

/** Of the block that a line opens: the line of its `#else`, or of its `#end` if it has none, and that of its `#end`. */
function bounds(lines: readonly string[], opening: number, to: number, file: string): { readonly middle: number; readonly end: number } {
  let depth = 0;
  let middle: number | null = null;
  for (let at = opening + 1; at < to; at++) {
    const [, word] = /^\s*#(\w+)/.exec(lines[at]!) ?? [];
    if (word === "if" || word === "repeat") depth += 1;
    else if (word === "else" && depth === 0) middle = at;
    else if (word === "end") {
      if (depth === 0) return { middle: middle ?? at, end: at };
      depth -= 1;
    }
  }
  throw fault(file, opening, "it has no #end");
}

/** Binary operators, those that bind least first; of one row from left to right. */
const operators: readonly Readonly<Record<string, (a: number, b: number) => number>>[] = [
  { "||": (a, b) => Number(a !== 0 || b !== 0) },
  { "&&": (a, b) => Number(a !== 0 && b !== 0) },
  {
    "==": (a, b) => Number(a === b),
    "!=": (a, b) => Number(a !== b),
    "<=": (a, b) => Number(a <= b),
    ">=": (a, b) => Number(a >= b),
    "<": (a, b) => Number(a < b),
    ">": (a, b) => Number(a > b),
  },
  { "+": (a, b) => a + b, "-": (a, b) => a - b },
  { "*": (a, b) => a * b, "/": (a, b) => Math.floor(a / b), "%": (a, b) => a % b },
];

/** As WGSL's: `select(ifFalse, ifTrue, condition)`. */
const functions: Readonly<Record<string, (...values: number[]) => number>> = {
  select: (no = NaN, yes = NaN, condition = NaN) => (condition !== 0 ? yes : no),
  min: (a = NaN, b = NaN) => Math.min(a, b),
  max: (a = NaN, b = NaN) => Math.max(a, b),
};

/** @throws Error for what is no such expression, or has no whole value. */
export function evaluate(expression: string, valueOf: (name: string) => number): number {
  const tokens = expression.match(/\d+u?|\w+|\|\||&&|[=!<>]=|[^\s]/g) ?? [];
  let at = 0;
  const expect = (token: string): void => {
    if (tokens[at] !== token) throw new Error(`${token} is missing`);
    at += 1;
  };

  function level(row: number): number {
    const known = operators[row];
    if (known === undefined) return unary();
    let left = level(row + 1);
    for (;;) {
      const apply = known[tokens[at] ?? ""];
      if (apply === undefined) return left;
      at += 1;
      left = apply(left, level(row + 1));
    }
  }

  function unary(): number {
    const token = tokens[at];
    if (token === undefined) throw new Error("a value is missing");
    at += 1;
    if (token === "!") return Number(unary() === 0);
    if (token === "(") {
      const inner = level(0);
      expect(")");
      return inner;
    }
    if (/^\d/.test(token)) return Number.parseInt(token, 10);
    if (token === "true" || token === "false") return Number(token === "true");
    if (!/^\w+$/.test(token)) throw new Error(`${token} is no value`);
    if (tokens[at] !== "(") return valueOf(token);
    const call = functions[token];
    if (call === undefined) throw new Error(`${token} is no function`);
    const values: number[] = [];
    do {
      at += 1;
      values.push(level(0));
    } while (tokens[at] === ",");
    expect(")");
    return call(...values);
  }

  const value = level(0);
  if (at < tokens.length) throw new Error(`${tokens[at] ?? ""} is too much`);
  if (!Number.isInteger(value)) throw new Error("there is no whole value");
  return value;
}

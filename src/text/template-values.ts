/**
 * Runs a chat template so that its values become text as in Python, which templates are written for: `@huggingface/jinja` writes true and
 * None as "true" and "", and lists and maps as JSON. Values are changed where a template prints them, joins them (`~`, `join`) or asks for
 * their text (`string`); a `+` of a text and something else is the error it is there.
 *
 * Source: CPython's `str` and `repr`; `test/unit/chat-template.test.ts` compares with Jinja2.
 */
import * as jinja from "@huggingface/jinja";
import type { Template } from "@huggingface/jinja";

/** A part of a parsed template. */
interface Node {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A value while a template runs. */
interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** What is used of the library's runtime. */
interface Scope {
  set(name: string, value: unknown): unknown;
}
type Evaluate = (node: Node | undefined, scope: Scope) => Value;
// The package's types of these two are not found by its own files.
const { Environment, Interpreter } = jinja as unknown as {
  readonly Environment: new () => Scope;
  readonly Interpreter: new (scope: Scope) => { evaluate: Evaluate; run(program: unknown): { value: string } };
};

/** What stands in a block and prints nothing, or text that is made already. */
const statements = new Set(["Set", "If", "For", "Macro", "CallStatement", "FilterStatement", "Break", "Continue", "Comment"]);
const blocks = new Set(["body", "alternate", "defaultBlock"]);

/** The expressions of a template whose values it prints. */
export function printedBy(template: Template): ReadonlySet<object> {
  const printed = new Set<object>();
  const visit = (part: unknown): void => {
    if (Array.isArray(part)) part.forEach(visit);
    else if (part instanceof Map) for (const pair of part) visit(pair);
    else if (typeof part === "object" && part !== null)
      for (const [field, inner] of Object.entries(part)) {
        if (blocks.has(field) && Array.isArray(inner))
          for (const node of inner as Node[]) if (!statements.has(node.type)) printed.add(node);
        visit(inner);
      }
  };
  visit(template.parsed);
  return printed;
}

/** The text of a template with these variables; `printed` is `printedBy(template)`. @throws whatever the template or the library throws. */
export function runTemplate(template: Template, printed: ReadonlySet<object>, variables: Readonly<Record<string, unknown>>): string {
  const scope = new Environment();
  for (const [name, value] of Object.entries(variables)) scope.set(name, value);
  const interpreter = new Interpreter(scope);
  const library = interpreter.evaluate.bind(interpreter);
  // A value in the place of a part that was evaluated already.
  const held = (value: Value): Node => ({ type: "held", held: value });
  const text = (value: string): Value => library({ type: "StringLiteral", value }, scope);
  interpreter.evaluate = (node, where) => {
    if (node === undefined) return library(node, where);
    if (node.type === "held") return node["held"] as Value;
    const value = evaluate(node, where);
    return printed.has(node) && value.type !== "StringValue" ? text(pythonText(value)) : value;
  };
  const evaluate: Evaluate = (node, where) => {
    const part = (field: string): Value => interpreter.evaluate(node![field] as Node, where);
    const operator = node!.type === "BinaryExpression" ? (node!["operator"] as Node)["value"] : undefined;
    if (operator === "~") return text(pythonText(part("left")) + pythonText(part("right")));
    if (operator === "+") {
      const [left, right] = [part("left"), part("right")];
      if ((left.type === "StringValue") !== (right.type === "StringValue"))
        throw new TypeError(`+ of ${pythonName(left)} and ${pythonName(right)}, which Jinja2 refuses; ~ joins them as text`);
      return library({ ...node!, left: held(left), right: held(right) }, where);
    }
    if (node!.type === "FilterExpression") {
      const filter = filterName(node!);
      if (filter === "string") return text(pythonText(part("operand")));
      if (filter === "join") {
        const operand = part("operand");
        if (!isList(operand)) return library({ ...node!, operand: held(operand) }, where);
        const items = operand.value.map((item) => held(text(pythonText(item))));
        return library({ ...node!, operand: { type: "ArrayLiteral", value: items } }, where);
      }
    }
    return library(node, where);
  };
  return interpreter.run(template.parsed).value;
}

function filterName(node: Node): unknown {
  const filter = node["filter"] as Node;
  return ((filter["callee"] as Node | undefined) ?? filter)["value"];
}

function isList(value: Value): value is Value & { readonly value: readonly Value[] } {
  return value.type === "ArrayValue" || value.type === "TupleValue";
}

function pythonName({ type }: Value): string {
  return type.replace(/Value$/, "").toLowerCase();
}

/** Python's `str`; an undefined variable prints nothing. */
function pythonText(value: Value): string {
  if (value.type === "StringValue") return value.value as string;
  return value.type === "UndefinedValue" ? "" : pythonForm(value);
}

/** Python's `repr`. @throws TypeError for a function, which has no text that is always the same. */
function pythonForm(value: Value): string {
  if (isList(value)) {
    const items = value.value.map(pythonForm);
    if (value.type === "ArrayValue") return `[${items.join(", ")}]`;
    return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
  }
  switch (value.type) {
    case "StringValue":
      return quoted(value.value as string);
    case "BooleanValue":
      return value.value === true ? "True" : "False";
    case "NullValue":
      return "None";
    case "UndefinedValue":
      return "Undefined";
    case "IntegerValue":
      return String(value.value);
    case "FloatValue":
      return float(value.value as number);
    case "ObjectValue":
      return `{${[...(value.value as ReadonlyMap<string, Value>)].map(([key, item]) => `${quoted(key)}: ${pythonForm(item)}`).join(", ")}}`;
    default:
      throw new TypeError(`a ${pythonName(value)} is printed, which looks otherwise in Jinja2`);
  }
}

function float(x: number): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
  const size = Math.abs(x);
  // At least two digits: 1e-05.
  if (size >= 1e16 || (size < 1e-4 && size > 0)) return x.toExponential().replace(/(?<=e[+-])(?=\d$)/, "0");
  return Number.isInteger(x) ? `${Object.is(x, -0) ? "-0" : x}.0` : String(x);
}

const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  // What Python does not print as it is: separators but the space, and characters without a picture.
  const inner = text.replaceAll(/[\\'"]|(?! )[\p{C}\p{Z}]/gu, (character) => {
    if (character === "'" || character === '"') return character === quote ? `\\${character}` : character;
    const code = character.codePointAt(0) as number;
    const hex = (letter: string, digits: number): string => `\\${letter}${code.toString(16).padStart(digits, "0")}`;
    return escapes[character] ?? (code < 0x100 ? hex("x", 2) : code < 0x10000 ? hex("u", 4) : hex("U", 8));
  });
  return `${quote}${inner}${quote}`;
}

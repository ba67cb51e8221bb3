/** The schema as a flat list of keys, for help, for messages and for reading `key=value`. */
import { z } from "zod";
import { configSchema, type Config } from "./schema.ts";
import { mergeTrees, treeOf, valueIn } from "./tree.ts";

type KeyType = "integer" | "number" | "string" | "boolean" | "object";

export interface Key {
  /** Dotted, as it is written on the command line. */
  readonly key: string;
  readonly section: string;
  readonly type: KeyType;
  readonly nullable: boolean;
  /** Whether the value is a path of a file or folder. */
  readonly path: boolean;
  /** Whether the value may be a list of paths, or of texts. */
  readonly list: boolean;
  /** Whether the value is a model: a path, or a Hub id. */
  readonly model: boolean;
  /** Names of a table that the value may be instead of a path. */
  readonly names: readonly string[];
  /** Shown by `--help all` only. */
  readonly rare: boolean;
  /** Undefined where the key must be given. */
  readonly default: unknown;
  /** What values are right, in words: "an integer from 1". */
  readonly expected: string;
  readonly doc: string;
}

interface Section {
  readonly name: string;
  readonly doc: string;
}

interface JsonSchema {
  readonly type?: string | readonly string[];
  /** A value or null. */
  readonly anyOf?: readonly JsonSchema[];
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly pattern?: string;
  readonly path?: boolean;
  readonly list?: boolean;
  readonly model?: boolean;
  readonly names?: readonly string[];
  /** What may stand in place of a name, in words; a module unless it says so. */
  readonly own?: string;
  readonly rare?: boolean;
}

const root = z.toJSONSchema(configSchema, { io: "input" }) as JsonSchema;

/** All keys, in the schema's order; top-level keys have section "". */
export const keys: readonly Key[] = Object.entries(root.properties ?? {}).flatMap(([name, schema]) =>
  schema.properties === undefined
    ? [describeKey("", name, schema)]
    : Object.entries(schema.properties).map(([child, childSchema]) => describeKey(name, child, childSchema)),
);

export const sections: readonly Section[] = Object.entries(root.properties ?? {})
  .filter(([, schema]) => schema.properties !== undefined)
  .map(([name, schema]) => ({ name, doc: schema.description ?? "" }));

const byName = new Map(keys.map((key) => [key.key, key]));

export function findKey(name: string): Key | undefined {
  return byName.get(name);
}

/** The value of a key, such as `train.steps`. */
export function valueAt(config: Config, key: string): unknown {
  return valueIn(config, key.split("."));
}

/** The configuration with another value of a key. */
export function withValue(config: Config, key: string, value: string | readonly string[] | null): Config {
  return mergeTrees([config, treeOf(key.split("."), value)]) as Config;
}

function describeKey(section: string, name: string, schema: JsonSchema): Key {
  const types = (schema.anyOf ?? [schema]).flatMap((option) => option.type);
  const nullable = types.includes("null");
  const type = types.find((one) => one !== "null") as KeyType;
  // A value or null: its range is that of the value.
  const range = { ...schema, ...schema.anyOf?.find((option) => option.type === type), type };
  const path = schema.path === true;
  return {
    key: section === "" ? name : `${section}.${name}`,
    section,
    type,
    nullable,
    path,
    list: schema.list === true,
    model: schema.model === true,
    names: schema.names ?? [],
    rare: schema.rare === true,
    default: schema.default,
    expected: describeRange(range, path) + (nullable ? ", or null" : ""),
    doc: schema.description ?? "",
  };
}

function describeRange(schema: JsonSchema, path: boolean): string {
  if (schema.enum !== undefined) return schema.enum.length === 1 ? `"${schema.enum[0] ?? ""}"` : `one of ${schema.enum.join(", ")}`;
  if (schema.names !== undefined) return `one of ${schema.names.join(", ")}, or ${schema.own ?? "a module such as ./my-module.js"}`;
  if (schema.type === "object") return "a map of settings";
  if (schema.list === true) return path ? "a path, or a list of paths" : "a text, or a list of texts";
  if (path) return schema.model === true ? "a folder, or a Hub id such as Qwen/Qwen2.5-3B" : "a path";
  if (schema.pattern !== undefined) return "a name of letters, digits, '.', '_' and '-'";
  if (schema.type === "boolean") return "true or false";
  if (schema.type === "string") return "a text";
  let text = schema.type === "integer" ? "an integer" : "a number";
  const { minimum, exclusiveMinimum, maximum, exclusiveMaximum } = schema;
  if (exclusiveMinimum !== undefined) text += ` above ${exclusiveMinimum}`;
  else if (minimum !== undefined) text += ` from ${minimum}`;
  if (exclusiveMaximum !== undefined) text += ` and below ${exclusiveMaximum}`;
  else if (maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER) text += ` to ${maximum}`;
  return text;
}

/** Which tool of a server searches, and how it takes a query. */
import { ConfigError } from "../../util/errors.ts";
import { nearest } from "../../util/nearest.ts";

/** As a server lists it. All of it is the server's word. */
export interface Tool {
  readonly name: string;
  /** JSON Schema of its arguments, as far as it says. */
  readonly properties: Readonly<Record<string, unknown>>;
  readonly required: readonly string[];
  /** Whether it says that there may be arguments besides `properties`. */
  readonly takesOthers: boolean;
}

interface Wanted {
  readonly tool: string | null;
  readonly queryField: string | null;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface SearchTool {
  readonly name: string;
  /** The arguments of a search. */
  readonly argumentsFor: (query: string) => Record<string, unknown>;
}

const mostShown = 20;
/** What of JSON Schema names arguments elsewhere than in `properties`. */
const combining = ["patternProperties", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "$ref"];

/** The tools in a server's list; what has no name is none. */
export function toolsIn(list: unknown): Tool[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((one: unknown) => {
    const { name, inputSchema } = (one ?? {}) as { name?: unknown; inputSchema?: unknown };
    if (typeof name !== "string" || name === "") return [];
    const schema = (inputSchema ?? {}) as Readonly<Record<string, unknown>>;
    const { properties, required, additionalProperties } = schema;
    return [
      {
        name,
        properties: isObject(properties) ? (properties as Record<string, unknown>) : {},
        required: Array.isArray(required) ? required.filter((field) => typeof field === "string") : [],
        takesOthers:
          additionalProperties === true || isObject(additionalProperties) || combining.some((keyword) => Object.hasOwn(schema, keyword)),
      },
    ];
  });
}

/** @throws ConfigError, which names what there is, where no tool or field is what was asked for, or several could be. */
export function chooseTool(tools: readonly Tool[], wanted: Wanted): SearchTool {
  const tool = toolOf(tools, wanted.tool);
  const field = fieldOf(tool, wanted);
  const fields = Object.keys(tool.properties);
  const unknown = Object.keys(wanted.arguments).find((name) => !fields.includes(name));
  if (unknown !== undefined && fields.length > 0 && !tool.takesOthers) {
    const guess = nearest(unknown, fields);
    throw new ConfigError({
      where: "mcp.arguments",
      what: `${JSON.stringify(unknown)} is no argument of the tool ${shown(tool.name)}`,
      expected: `some of ${shownList(fields)}`,
      hint: guess === undefined ? undefined : `did you mean ${shown(guess)}?`,
    });
  }
  const lacking = tool.required.find((name) => name !== field && !Object.hasOwn(wanted.arguments, name));
  if (lacking !== undefined)
    throw new ConfigError({
      where: "mcp.arguments",
      what: `lacks ${shown(lacking)}, which the tool ${shown(tool.name)} must be given`,
      expected: shownList([...tool.required].filter((name) => name !== field)),
      got: shownList(Object.keys(wanted.arguments)),
    });
  const several = typeOf(tool, field) === "array";
  return { name: tool.name, argumentsFor: (query) => ({ ...wanted.arguments, [field]: several ? [query] : query }) };
}

function toolOf(tools: readonly Tool[], wanted: string | null): Tool {
  const fault = (what: string, got: string | undefined): ConfigError =>
    new ConfigError({ where: "mcp.tool", what, expected: `one of ${shownList(tools.map(({ name }) => name))}`, got });
  if (tools.length === 0)
    throw new ConfigError({
      where: "mcp",
      what: "the server offers no tools",
      expected: "one that searches",
      hint: "Resources and prompts, which it may offer, are not searched. Is it the right server, and do mcp.args switch its tools on?",
    });
  if (wanted !== null) {
    const named = tools.find(({ name }) => name === wanted);
    if (named === undefined) throw fault("is no tool of the server", JSON.stringify(wanted));
    return named;
  }
  const [only] = tools;
  if (tools.length === 1 && only !== undefined) return only;
  const searching = tools.filter(({ name }) => /search/i.test(name));
  const [found] = searching;
  if (searching.length === 1 && found !== undefined) return found;
  const exact = searching.find(({ name }) => name.toLowerCase() === "search");
  if (exact !== undefined) return exact;
  throw fault(`must say which of the server's tools ${searching.length === 0 ? "searches" : "is meant"}`, undefined);
}

function fieldOf(tool: Tool, { queryField, arguments: given }: Wanted): string {
  const fields = Object.keys(tool.properties);
  const fault = (what: string): ConfigError =>
    new ConfigError({
      where: "mcp.queryField",
      what,
      expected: fields.length === 0 ? "an argument of the tool" : `one of ${shownList(fields)}`,
    });
  if (queryField !== null) {
    if (fields.length > 0 && !fields.includes(queryField)) throw fault(`is no argument of the tool ${shown(tool.name)}`);
    return queryField;
  }
  const usual = ["query", "q"].find((name) => fields.includes(name));
  if (usual !== undefined) return usual;
  const texts = (names: readonly string[]): string[] =>
    names.filter((name) => typeOf(tool, name) === "string" && !Object.hasOwn(given, name));
  for (const names of [texts(tool.required), texts(fields)]) if (names.length === 1) return names[0] as string;
  throw fault(`must say which argument of the tool ${shown(tool.name)} takes the query`);
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function typeOf(tool: Tool, field: string): unknown {
  const schema = Object.hasOwn(tool.properties, field) ? tool.properties[field] : undefined;
  return (schema as { type?: unknown } | null | undefined)?.type;
}

/** A server's word, for a message: short, and without what a terminal obeys. */
export function shown(name: string): string {
  return name.replace(/[^\x20-\x7e]/g, "?").slice(0, 64);
}

function shownList(names: readonly string[]): string {
  if (names.length === 0) return "none";
  return `${names.slice(0, mostShown).map(shown).join(", ")}${names.length > mostShown ? ", ..." : ""}`;
}

/**
 * A search service described by a YAML file: how it is asked, and where its documents stand in what it answers. docs/engines.md says how to write
 * one; `configs/engines/` has those of this package.
 */
import { readFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import { ConfigError, FileError } from "../util/errors.ts";
import { parsePath } from "./reply-path.ts";
import { apiNames } from "./settings.ts";

const text = z.string().min(1);
const path = text.transform((written, context) => {
  const steps = parsePath(written);
  if (steps !== null) return { written, steps };
  context.addIssue({ code: "custom", message: "no path, such as data.results, hits[0].text or . for all" });
  return z.NEVER;
});
/** One place, the first of several that has a text, several joined, or a line of one. */
const field = z.union([
  path,
  z.array(path).min(1),
  z.strictObject({ join: z.array(path).min(1), with: z.string().default(" ") }),
  z.strictObject({ path, line: z.enum(["first", "rest"]) }),
]);
const several = z.union([path, z.array(path).min(1)]).transform((given) => (Array.isArray(given) ? given : [given]));
const baseUrl = text.refine(
  (given) => !/[{}]/.test(given) && URL.canParse(given) && /^https?:$/.test(new URL(given).protocol),
  "no http or https address without placeholders",
);

const apiSchema = z.strictObject({
  /** The vendor's pages that this was written from. */
  vendor: z.union([text, z.array(text).min(1)]).transform((given) => (typeof given === "string" ? [given] : given)),
  /** When they were read last. */
  checked: z.string().regex(/^\d{4}-\d{2}-\d{2}$/, "no date such as 2026-11-30"),
  /** Whether the vendor's own pages say all that stands here. */
  verified: z.boolean(),
  /** `page`: where it is said. */
  price: z.strictObject({ perThousand: z.number().min(0), currency: text, page: text }).optional(),
  /** Environment variable that holds the key. */
  key: z.string().regex(/^\w+$/, "no name of an environment variable").optional(),
  /** Asks without a key where there is none: what holds {key} is left out. */
  keyOptional: z.boolean().default(false),
  /** `http.url` replaces it. */
  url: baseUrl,
  /** After the base URL. */
  path: z
    .string()
    .regex(/^\/[^{}?#]*$/, "no path that begins with / and has no placeholder")
    .optional(),
  method: z.enum(["GET", "POST"]),
  headers: z.record(text, z.string()).default({}),
  query: z.record(text, z.union([z.string(), z.number(), z.boolean()])).default({}),
  body: z.json().optional(),
  /** What a query may have at most: longer ones are cut. */
  mostDocuments: z.number().int().min(1).optional(),
  mostCharacters: z.number().int().min(1).optional(),
  mostWords: z.number().int().min(1).optional(),
  reply: z.strictObject({
    results: path,
    /** What every good reply has: where it is there, a reply without results has found nothing. */
    answered: path.optional(),
    text: field,
    title: field.optional(),
    url: field.optional(),
    id: field.optional(),
    score: path.optional(),
    /** Fields that hold HTML. */
    html: z.array(z.enum(["title", "text"])).default([]),
    /** Where an error stands in a reply with status 200 that has no results. */
    error: several.optional(),
    /** An error that contains this says that nothing was found. */
    nothing: text.optional(),
  }),
});

export type HttpApi = z.output<typeof apiSchema> & { readonly name: string };
export type Field = z.output<typeof field>;
export type Path = z.output<typeof path>;

/**
 * The service that `http.api` names: one of this package's, or a YAML file.
 * @throws FileError where there is no such file; ConfigError, naming the key, where it is wrong.
 */
export function readHttpApi(api: string): HttpApi {
  const own = !(apiNames as readonly string[]).includes(api);
  const file = own ? api : fileURLToPath(new URL(`../../configs/engines/${api}.yaml`, import.meta.url));
  const where = own ? api : `configs/engines/${api}.yaml`;
  const result = apiSchema.safeParse(readFile(file, where));
  if (!result.success) throw explain(result.error, where);
  const fault = faultOf(result.data);
  if (fault !== undefined) throw new ConfigError({ where, ...fault });
  return { ...result.data, name: own ? basename(api).replace(/\.ya?ml$/, "") : api };
}

function readFile(file: string, where: string): unknown {
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const got = resolve(file);
    const what = missing ? "there is no such file" : `cannot be read: ${(cause as Error).message}`;
    throw new FileError({ where: `http.api=${where}`, what, expected: "the YAML file of a search service", got }, { cause });
  }
  try {
    return parse(content);
  } catch (cause) {
    throw new ConfigError({ where, what: `not valid YAML: ${(cause as Error).message.split("\n")[0] ?? ""}` }, { cause });
  }
}

function explain({ issues }: z.ZodError, where: string): ConfigError {
  const issue = issues[0] as z.core.$ZodIssue;
  const at = [where, ...(issue.path.length === 0 ? [] : [issue.path.join(".")])].join(": ");
  const hint = "docs/engines.md says what such a file holds.";
  if (issue.code === "unrecognized_keys") return new ConfigError({ where: at, what: `unknown key ${issue.keys.join(", ")}`, hint });
  return new ConfigError({ where: at, what: issue.message.replace(/^Invalid input: /, ""), hint });
}

/** What the shape alone does not say: where placeholders may stand. */
function faultOf({ key, keyOptional, method, headers, query, body }: z.output<typeof apiSchema>) {
  const [inHeaders, inQuery, inBody] = [headers, query, body].map((part) => new Set(placeholdersIn(part)));
  const all = new Set([...(inHeaders ?? []), ...(inQuery ?? []), ...(inBody ?? [])]);
  const unknown = [...all].find((name) => !["query", "documents", "key"].includes(name));
  if (unknown !== undefined) return { what: `unknown placeholder {${unknown}}`, expected: "{query}, {documents} or {key}" };
  if (inHeaders?.has("query") || inHeaders?.has("documents")) return { what: "a header may hold no placeholder but {key}" };
  if (!all.has("query")) return { what: "is never told the query", expected: "{query} in query or body" };
  if (all.has("key") !== (key !== undefined))
    return key === undefined
      ? { what: "{key} stands in it, and no variable that holds one", expected: "key: NAME_OF_A_VARIABLE" }
      : { what: `its key, in ${key}, is never sent`, expected: "{key} in headers, query or body" };
  if (keyOptional && (key === undefined || inBody?.has("key")))
    return { what: "keyOptional is for a key in headers or query", expected: "one there" };
  if (method === "GET" && body !== undefined) return { what: "a GET has no body", expected: "method: POST" };
  return undefined;
}

/** Names in braces in the texts of a value. */
function placeholdersIn(value: unknown): string[] {
  if (typeof value === "string") return [...value.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(placeholdersIn);
}

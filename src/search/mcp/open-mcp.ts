/** Opens an MCP server as a search engine: starts it, or reaches it, and finds the tool that searches. */
import { basename } from "node:path";
import { ConfigError } from "../../util/errors.ts";
import { counted } from "../../util/plural.ts";
import type { EngineContext, OpenedEngine } from "../engine-kind.ts";
import { hider, keyIn } from "../secret.ts";
import { serverUrl } from "../server-url.ts";
import type { McpSettings } from "../settings.ts";
import { McpSearch } from "./mcp-search.ts";
import { McpServer, type McpPlace } from "./server.ts";

/** Shorter values stand in ordinary texts: they are not taken out of messages, or of documents. */
const shortestInMessages = 6;
const shortestInDocuments = 12;

interface Place {
  readonly place: McpPlace;
  /** For messages. */
  readonly where: string;
  readonly secrets: readonly string[];
}

/** @throws ConfigError for a wrong address, variable, tool or argument; ServerError where the server cannot be had. */
export async function openMcp(settings: McpSettings, { seed, now, say, signal }: EngineContext): Promise<OpenedEngine> {
  const { place, where, secrets } = placeOf(settings);
  const {
    tool,
    queryField,
    arguments: further,
    documents,
    startTimeout,
    timeout,
    patience,
    concurrency,
    breakAfter,
    breakSeconds,
  } = settings;
  const hide = hiderOf(secrets, shortestInMessages);
  const engine = await McpSearch.open(
    {
      server: new McpServer({ place, tool, queryField, arguments: further, startTimeout, timeout, hide }),
      where,
      seed,
      documents,
      hide,
      hideInDocuments: hiderOf(secrets, shortestInDocuments),
      patience,
      concurrency,
      breakAfter,
      breakSeconds,
      now,
      onOutage: ({ message }) => say(`mcp: ${message}; trying again for up to ${patience} s (mcp.patience)`),
      onAnswer: ({ seconds, retries }) =>
        say(`mcp: answers again, after ${Math.round(seconds)} s and ${counted(retries, "retry", "retries")}`),
    },
    signal,
  );
  const takeCounts = (): Readonly<Record<string, number>> =>
    Object.fromEntries(Object.entries(engine.takeCounts()).map(([name, count]) => [`mcp_${name}`, count]));
  return { engine, takeCounts };
}

function hiderOf(secrets: readonly string[], shortest: number): (text: string) => string {
  const hiders = secrets.filter((secret) => secret.length >= shortest).map(hider);
  return (text) => hiders.reduce((rest, hide) => hide(rest), text);
}

function placeOf(settings: McpSettings): Place {
  const { command, url, key: variable } = settings;
  const fault = (where: string, what: string, expected: string): ConfigError => new ConfigError({ where, what, expected });
  const one = "one of them: a program to start, or the address of a server (mcp.url)";
  if (command !== null && url !== null) throw fault("mcp.command", "and mcp.url are both given", one);
  if (url !== null) {
    if (settings.args !== null || settings.env !== null)
      throw fault(`mcp.${settings.args === null ? "env" : "args"}`, "is never used", "null with mcp.url: they are a program's");
    return placeAt(url, variable, settings.header);
  }
  if (command === null) throw fault("mcp.command", "is missing", one);
  if (variable !== null)
    throw fault("mcp.key", "is never used", "null with mcp.command: mcp.env names the variables that a program is given");
  const names = listOf(settings.env);
  const env = Object.fromEntries(names.map((name) => [name, valueOf(name)]));
  return { place: { command, args: listOf(settings.args), env }, where: `mcp (${basename(command)})`, secrets: Object.values(env) };
}

function placeAt(text: string, variable: string | null, header: string): Place {
  const expected = "an address such as https://host/mcp";
  const inUrl = text.includes("{key}");
  if (inUrl && variable === null)
    throw new ConfigError({ where: "mcp.key", what: "is missing", expected: "the variable whose key is {key} in mcp.url" });
  const key =
    variable === null ? undefined : keyIn(variable, "mcp.key", `Set it (export ${variable}=...). The key itself is written nowhere.`);
  const { origin, pathname } = serverUrl("mcp.url", text.replaceAll("{key}", "key"), expected, "that mcp.key names");
  const url = new URL(text.replaceAll("{key}", encodeURIComponent(key ?? "")));
  const sent = key === undefined || inUrl ? {} : { [header]: header.toLowerCase() === "authorization" ? `Bearer ${key}` : key };
  return { place: { url, headers: sent }, where: `mcp (${origin}${pathname})`, secrets: key === undefined ? [] : [key] };
}

function valueOf(name: string): string {
  const value = process.env[name] ?? "";
  if (value.trim() !== "") return value;
  throw new ConfigError({
    where: "mcp.env",
    what: `the environment variable ${name} is not set`,
    expected: "a value in it, which the server is given",
  });
}

function listOf(given: string | readonly string[] | null): readonly string[] {
  return given === null ? [] : typeof given === "string" ? [given] : given;
}

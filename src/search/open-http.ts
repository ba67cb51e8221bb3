/** Opens a search service that a YAML file describes. It is not asked before the first search: many are paid by the request. */
import { ConfigError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import type { EngineContext, OpenedEngine } from "./engine-kind.ts";
import { readHttpApi, type HttpApi } from "./http-api.ts";
import { HttpSearch } from "./http-search.ts";
import { keyIn } from "./secret.ts";
import { serverUrl } from "./server-url.ts";
import type { HttpSettings } from "./settings.ts";

/** @throws ConfigError for a wrong file, address or variable; FileError where there is no such file. */
export function openHttp(settings: HttpSettings, { seed, now, say }: EngineContext): OpenedEngine {
  const { api: named, url, documents, timeout, patience, concurrency, breakAfter, breakSeconds } = settings;
  if (named === null)
    throw new ConfigError({ where: "http.api", what: "is missing", expected: "a service such as serper, or a YAML file", got: "null" });
  const api = readHttpApi(named);
  const key = keyOf(api);
  if (url !== null) checkUrl(url);
  const engine = new HttpSearch({
    api,
    url: url ?? undefined,
    key,
    documents,
    seed,
    timeout,
    patience,
    concurrency,
    breakAfter,
    breakSeconds,
    now,
    onOutage: ({ message }) => say(`${api.name}: ${message}; trying again for up to ${patience} s (http.patience)`),
    onAnswer: ({ seconds, retries }) =>
      say(`${api.name}: answers again, after ${Math.round(seconds)} s and ${counted(retries, "retry", "retries")}`),
  });
  const takeCounts = (): Readonly<Record<string, number>> =>
    Object.fromEntries(Object.entries(engine.takeCounts()).map(([name, count]) => [`http_${name}`, count]));
  return { engine, takeCounts };
}

function keyOf({ key, keyOptional, name }: HttpApi): string | undefined {
  if (key === undefined || (keyOptional && (process.env[key]?.trim() ?? "") === "")) return undefined;
  return keyIn(key, `http.api=${name}`, `Set it (export ${key}=...). The key itself is written nowhere.`);
}

function checkUrl(text: string): void {
  const [where, expected] = ["http.url", "an address such as http://127.0.0.1:8000"];
  const url = serverUrl(where, text, expected, "that the file of http.api names");
  if (url.search !== "" || url.hash !== "")
    throw new ConfigError({ where, what: "has parameters: these stand in the file of http.api", expected });
}

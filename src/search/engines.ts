/** All search engines, by name: a new one is a file in this folder, its section in `settings.ts`, and a line here. */
import { Bm25Search } from "./bm25.ts";
import { indexedCorpus } from "./bm25/file-index.ts";
import type { EngineKind } from "./engine-kind.ts";
import { readHttpApi } from "./http-api.ts";
import { checkDense, denseIdentity, openDense } from "./open-dense.ts";
import { openMcp } from "./mcp/open-mcp.ts";
import { openHttp } from "./open-http.ts";
import { openSimulated } from "./open-simulated.ts";
import {
  bm25Settings,
  denseSettings,
  httpSettings,
  mcpSettings,
  simulatorSettings,
  type Bm25Settings,
  type DenseSettings,
  type HttpSettings,
  type McpSettings,
  type SimulatorSettings,
} from "./settings.ts";
import { simulatorTemplateOf } from "./simulator-prompt.ts";
import { ConfigError } from "../util/errors.ts";

const simulated: EngineKind<SimulatorSettings> = {
  name: "simulated",
  section: "simulator",
  schema: simulatorSettings,
  runsHere: ({ path }) => path !== null,
  identity(settings, { seed, noise, unit, promptSet }) {
    // How patiently an endpoint is asked, and with which key, changes no answer.
    const asked = Object.entries(settings).filter(([name]) => !/^endpoint(Key|Concurrency|Timeout|Patience)$/.test(name));
    const { useful, noisy } = simulatorTemplateOf(settings.prompt, promptSet);
    return Promise.resolve({ ...Object.fromEntries(asked), prompt: { useful, noisy }, seed, noise, unit });
  },
  open: openSimulated,
};

const bm25: EngineKind<Bm25Settings> = {
  name: "bm25",
  section: "bm25",
  schema: bm25Settings,
  // An index says of which corpus it is: both give the same documents.
  identity: async ({ documents, index }, { corpus, hashFile, pathHere }) => ({
    documents,
    corpus: index !== null ? await indexedCorpus(pathHere(index)) : corpus === null ? null : await hashFile(corpus),
  }),
  async open({ documents, index }, { corpus }) {
    if (index !== null) return { engine: await Bm25Search.fromIndex(index, documents, corpus) };
    if (corpus === null)
      throw new ConfigError({
        where: "data.corpus",
        what: "is missing",
        expected: "a path, or an index in bm25.index: bm25 has nothing to search",
        got: "null",
      });
    return { engine: await Bm25Search.fromCorpus(corpus, documents) };
  },
};

const dense: EngineKind<DenseSettings> = {
  name: "dense",
  section: "dense",
  schema: denseSettings,
  // Whatever makes the embeddings, they are searched on the device.
  runsHere: () => true,
  check: checkDense,
  identity: denseIdentity,
  open: openDense,
};

const http: EngineKind<HttpSettings> = {
  name: "http",
  section: "http",
  schema: httpSettings,
  // How patiently it is asked, who says so and what it costs change no answer.
  identity({ api, url, documents }) {
    const described = Object.entries(api === null ? {} : readHttpApi(api));
    const asked = described.filter(([name]) => !["name", "vendor", "checked", "verified", "price", "key", "keyOptional"].includes(name));
    return Promise.resolve({ ...Object.fromEntries(asked), ...(url === null ? {} : { url }), documents });
  },
  open: (settings, context) => Promise.resolve().then(() => openHttp(settings, context)),
};

const mcp: EngineKind<McpSettings> = {
  name: "mcp",
  section: "mcp",
  schema: mcpSettings,
  // Who may ask, how patiently and what it costs change no answer.
  identity: ({ command, args, url, tool, queryField, arguments: further, documents }) =>
    Promise.resolve({ command, args, url, tool, queryField, arguments: further, documents }),
  open: openMcp,
};

export const engines = { simulated, bm25, dense, http, mcp };

/** The engine of that name; undefined where there is none. Its settings are those of its section. */
export function engineKind(name: string): EngineKind<unknown> | undefined {
  const table: Readonly<Record<string, EngineKind<unknown>>> = engines;
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** `zerosearch retriever`: serves a search engine as Search-R1's retrieval server does. */
import { packagedConfig, enginesUsed, readOverride, readYaml, resolveConfig, type ArgumentSpec, type Config } from "../config/index.ts";
import { Closing } from "../setup/closing.ts";
import { locateData } from "../setup/locate-data.ts";
import { openEmbeddingParts } from "../setup/open-embedder.ts";
import { Engines } from "../setup/open-engines.ts";
import { serveRetriever } from "../serve/retriever.ts";
import { ConfigError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch retriever",
  summary:
    "Serves the real search engine of a configuration (evaluation.engine) with Search-R1's protocol, which verl's search tool speaks too.",
  options: {
    config: { value: "FILE", doc: "YAML file as for training (configs/quickstart.yaml where it is left out)." },
    host: { value: "ADDRESS", doc: "Address to listen on (127.0.0.1); nothing asks who calls." },
    port: { value: "PORT", doc: "Port to listen on (8000); 0 takes a free one." },
    topk: { value: "N", doc: "Documents of a query where a request does not say (3)." },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec);
  if (read === null) return;
  const { options, settings } = read;
  const file = options.get("config");
  // The quickstart's corpus is not that of an index of the user's.
  const ownIndex = file === undefined && settings.some((one) => /^(bm25|dense)\.index=/.test(one));
  const overrides = [...(ownIndex ? ["data.corpus=null"] : []), ...settings].map(readOverride);
  const config = resolveConfig([...readYaml(file ?? packagedConfig("quickstart")), ...overrides], "ask");
  const host = options.get("host") ?? "127.0.0.1";
  const port = numberOf(options.get("port") ?? "8000", "--port", 0, 65535);
  const documents = numberOf(options.get("topk") ?? "3", "--topk", 1, 100);
  await untilInterrupted((signal) => serve(config, { host, port, documents, signal }));
}

interface Wanted {
  readonly host: string;
  readonly port: number;
  readonly documents: number;
  readonly signal: AbortSignal;
}

/** Until the signal fires, which is its usual end: exit code 0. */
async function serve(config: Config, { signal, ...wanted }: Wanted): Promise<void> {
  const { opened } = await locateData(config, { signal });
  const closing = new Closing();
  try {
    const used = enginesUsed(opened, "ask", true);
    const engines = await Engines.open(opened, used, closing, {
      signal,
      budgetHint: "A retriever that is started anew has its whole budget again; a larger search.budget lasts longer.",
    });
    if (used.includes("dense")) {
      const { config: found, ...parts } = await openEmbeddingParts(opened, closing);
      await engines.add(found, parts, closing, signal);
    }
    const engine = engines.get(opened.evaluation.engine);
    if ("simulate" in engine)
      throw new ConfigError({
        where: "evaluation.engine",
        what: "is a simulator, which is told the right answer",
        expected: "a real engine, such as bm25",
        got: engine.name,
      });
    if (signal.aborted) return;
    const server = await serveRetriever({ engine, ...wanted, say: (text) => void process.stderr.write(`${text}\n`) });
    say(
      `${engine.name} at ${server.address}/retrieve, ${counted(wanted.documents, "document")} a query; ${server.address}/health; Ctrl-C ends it`,
    );
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    say("no more requests are taken; those under way end");
    await server.close();
  } finally {
    await closing.close();
  }
}

function numberOf(text: string, where: string, least: number, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most)
    throw new ConfigError({ where, what: "wrong value", expected: `a whole number from ${least} to ${most}`, got: text });
  return value;
}

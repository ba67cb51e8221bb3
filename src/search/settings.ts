/** The settings of the search engines: sections of the configuration. No engine is loaded here. */
import { z } from "zod";
import {
  choice,
  flag,
  jsonRecord,
  nameOrText,
  nullableNameOrYaml,
  optionalModel,
  optionalPath,
  optionalText,
  optionalTexts,
  rare,
  real,
  section,
  templateVariables,
  whole,
} from "../util/fields.ts";

export const engineNames = ["simulated", "bm25", "dense", "http", "mcp"] as const;

/** Search services that `configs/engines/` describes. */
export const apiNames = [
  "serper",
  "serpapi",
  "tavily",
  "brave",
  "bocha",
  "bocha-ai",
  "searxng",
  "opensearch",
  "qdrant",
  "search-r1",
  "zerosearch",
] as const;

/** How noise goes from start to end: as in the paper; not at all; a new draw between them for each step; or from the end to the start. */
export const noiseForms = ["rising", "constant", "random", "reversed"] as const;
export type NoiseForm = (typeof noiseForms)[number];

/** What is drawn to be useful or noisy. */
export const noiseUnits = ["set", "document"] as const;
export type NoiseUnit = (typeof noiseUnits)[number];

/** An OpenAI-compatible server: the keys of every section that names one. */
export function endpointKeys(who: string) {
  return {
    endpoint: rare(
      optionalTexts(`Base URL of an OpenAI-compatible server that runs ${who}; or a list of servers that share the requests.`),
    ),
    endpointModel: rare(z.string().default("").describe("Name of the model there.")),
    endpointKey: rare(optionalText("Environment variable that holds the endpoint's API key; the key itself is never written anywhere.")),
    endpointConcurrency: rare(whole(64, { min: 1, max: 4096 }, "Requests under way at an endpoint at a time.")),
    endpointTimeout: rare(real(120, { min: 0.1 }, "Seconds after which a request is given up and tried again.")),
    endpointPatience: rare(
      real(900, { max: 604800 }, "Seconds that a request is tried again, at growing intervals, while the endpoint is away."),
    ),
  };
}

export const simulatorSettings = section("Search engine `simulated`: a model that plays it, in this process or behind an endpoint.", {
  path: optionalModel("The simulator in this process. With LoRA, the policy's own model: they share one copy of the weights."),
  adapter: optionalModel("PEFT adapter of the simulator, a folder or a Hub id."),
  endpoint: optionalTexts(
    "Base URL of an OpenAI-compatible server that runs the simulator, such as http://127.0.0.1:6001/v1, instead of simulator.path; or a list of servers that share the requests.",
  ),
  endpointModel: z.string().default("").describe("Name of the model at the endpoint."),
  endpointKey: optionalText("Environment variable that holds the endpoint's API key; the key itself is never written anywhere."),
  endpointConcurrency: rare(whole(64, { min: 1, max: 4096 }, "Requests under way at an endpoint at a time.")),
  endpointTimeout: rare(real(120, { min: 0.1 }, "Seconds after which a request to the endpoint is given up and tried again.")),
  endpointPatience: rare(
    real(
      900,
      { max: 604800 },
      "Seconds that a request is tried again, at growing intervals, while the endpoint is away; then its search has failed for good (search.onFailure).",
    ),
  ),
  prompt: nameOrText(
    ["paper", "prompted", "quickstart", "untold"],
    "What it is asked: the paper's prompt for tuned simulators, the one with a demonstration for models that are not tuned, the short one of the quickstart's simulator, the paper's without question and answer, or a text of your own with {query} and {kind} in it.",
  ),
  chatTemplateKwargs: templateVariables(
    'Further variables of its chat template, such as {"enable_thinking": false}; an endpoint is sent them as chat_template_kwargs.',
  ),
  opensThought: rare(
    flag(
      false,
      "The endpoint's chat template opens a thought itself, as those of DeepSeek-R1 and QwQ do: a text without </think> is then all thought, and makes no documents. In this process it is seen.",
    ),
  ),
  documents: whole(5, { min: 1, max: 100 }, "Documents kept of each set; text after them is cut."),
  maxNewTokens: whole(600, { min: 1 }, "Tokens one set of documents may take."),
  temperature: real(0.8, { max: 10 }, "Sampling temperature; 0 is greedy."),
  topK: rare(whole(0, {}, "Sample among the k likeliest tokens; 0 is off.")),
  topP: rare(
    z.number().gt(0).max(1).default(1).describe("Sample among the likeliest tokens that hold this share of the probability; 1 is off."),
  ),
  redraws: rare(
    whole(
      0,
      { max: 8 },
      "Times that a noisy set is written anew because it gives the right answer away; the last one stays as it is. 0 is off.",
    ),
  ),
});

export const bm25Settings = section("Search engine `bm25`: BM25 over data.corpus in this process, with SQLite's tokenizer.", {
  documents: whole(5, { min: 1, max: 100 }, "Documents a search returns."),
  index: rare(
    optionalPath(
      "Index that `zerosearch index` made, searched instead of one that is built in memory at each start; where data.corpus is given too, it must be of that very file (docs/retrieval.md).",
    ),
  ),
});

/** How texts are put to an embedding model; `auto` is `instruct`, and `e5` for an encoder. */
export const textForms = ["auto", "instruct", "e5", "bare"] as const;

export const denseSettings = section(
  "Search engine `dense`: exact search over embeddings of data.corpus, made by a decoder in this process, an encoder or a server (docs/retrieval.md).",
  {
    path: rare(optionalModel("Embedding model in this process, a decoder such as Qwen/Qwen3-Embedding-0.6B: its last token is taken.")),
    encoder: rare(
      optionalPath(
        "Encoder with ONNX files, a folder or a Hub id, that the optional package @huggingface/transformers runs, in place of dense.path: E5.",
      ),
    ),
    encoderDtype: rare(
      z.string().min(1).default("fp32").describe("Which of the encoder's ONNX files is taken, by the name of its type: fp32, fp16, q8."),
    ),
    encoderPooling: rare(choice(["mean", "cls"], "What of an encoder's tokens is taken: their mean, or the first one.")),
    endpoint: rare(
      optionalText("Base URL of a server with OpenAI's /embeddings, such as http://127.0.0.1:8000/v1, in place of dense.path."),
    ),
    endpointModel: rare(z.string().default("").describe("Name of the model at the endpoint.")),
    endpointKey: rare(optionalText("Environment variable that holds the endpoint's API key; the key itself is never written anywhere.")),
    endpointEncoding: rare(choice(["float", "base64"], "How the endpoint is asked to write numbers; both are read.")),
    endpointBatch: rare(whole(32, { min: 1, max: 2048 }, "Texts of a request.")),
    endpointConcurrency: rare(whole(8, { min: 1, max: 4096 }, "Requests under way at an endpoint at a time.")),
    endpointTimeout: rare(real(60, { min: 0.1 }, "Seconds after which a request to the endpoint is given up and tried again.")),
    endpointPatience: rare(
      real(
        300,
        { max: 604800 },
        "Seconds that a request is tried again, at growing intervals, while the endpoint is away; then its search has failed for good (search.onFailure).",
      ),
    ),
    form: rare(
      choice(
        textForms,
        "How texts are put to the model. instruct: an instruction before queries, passages as they are, as for Qwen3-Embedding; e5: `query: ` and `passage: `; bare: nothing; auto: instruct, and e5 for an encoder.",
      ),
    ),
    instruction: rare(
      z
        .string()
        .min(1)
        .default("Given a web search query, retrieve relevant passages that answer the query")
        .describe("What queries are for, with the form instruct: `Instruct: <this>`, a line break, `Query:` and the query."),
    ),
    maxTokens: rare(
      whole(
        512,
        { min: 8, max: 131072 },
        "Tokens of a passage or query, all included; what is longer is cut (at an endpoint to 4 characters a token).",
      ),
    ),
    dimensions: rare(
      whole(0, { max: 65536 }, "Numbers kept of an embedding, the first ones, for models that are trained for it; 0 keeps all."),
    ),
    dtype: rare(choice(["f32", "f16", "bf16"], "Type that embeddings of passages are kept in, in an index and on the device.")),
    batchTokens: rare(whole(8192, { min: 1 }, "Tokens that a model in this process takes at once: sets memory and speed, not the result.")),
    documents: rare(whole(5, { min: 1, max: 100 }, "Documents a search returns.")),
    index: rare(
      optionalPath(
        "Index that `zerosearch index --dense` made, searched instead of embeddings that are made at each start; where data.corpus is given too, it must be of that very file.",
      ),
    ),
  },
);

export const httpSettings = section("Search engine `http`: a search service, or a server of your own, that a YAML file describes.", {
  api: rare(
    nullableNameOrYaml(
      apiNames,
      "The service, described in configs/engines; or a YAML file of your own that describes one (docs/engines.md).",
    ),
  ),
  url: rare(optionalText("Base URL of the server, in place of the one in the file: for those that one runs oneself.")),
  documents: rare(whole(5, { min: 1, max: 100 }, "Documents a search returns.")),
  timeout: rare(real(20, { min: 0.1 }, "Seconds after which a request is given up and tried again.")),
  patience: rare(
    real(
      120,
      { max: 604800 },
      "Seconds that a request is tried again, at growing intervals, while the service is away; then its search has failed for good (search.onFailure).",
    ),
  ),
  concurrency: rare(whole(16, { min: 1, max: 4096 }, "Requests under way at a time.")),
  breakAfter: rare(whole(8, {}, "Searches in a row that fail for good before the next ones fail at once; 0 never.")),
  breakSeconds: rare(real(30, {}, "Seconds in which they do; then one search goes through, to see whether the service is back.")),
});

export const mcpSettings = section(
  "Search engine `mcp`: a search tool of an MCP server, started here or asked over HTTP (docs/engines.md).",
  {
    command: rare(optionalText("Program that is the server, asked over its standard input and output: npx, uvx, python, ...")),
    args: rare(optionalTexts("Its arguments, a list.")),
    env: rare(
      optionalTexts("Names of environment variables that it is given besides HOME, PATH and the like, such as one that holds a key."),
    ),
    url: rare(optionalText("Address of a server over streamable HTTP, in place of mcp.command; {key} in it becomes the key.")),
    key: rare(optionalText("Environment variable that holds the key of mcp.url; the key itself is never written anywhere.")),
    header: rare(
      z
        .string()
        .regex(/^[A-Za-z0-9-]+$/)
        .default("Authorization")
        .describe("Header that the key is sent in, unless mcp.url holds {key}; after `Bearer ` where it is Authorization."),
    ),
    tool: rare(optionalText("The tool that searches; null takes the only one, or the one whose name holds `search`.")),
    queryField: rare(optionalText("Its argument that takes the query; null takes query, q or the only text that it must be given.")),
    arguments: jsonRecord('Its further arguments, such as {"count": 5}.'),
    documents: rare(whole(5, { min: 1, max: 100 }, "Documents of a search that are kept.")),
    startTimeout: rare(real(60, { min: 0.1, max: 86400 }, "Seconds that the server may take to start and to list its tools.")),
    timeout: rare(real(20, { min: 0.1, max: 86400 }, "Seconds after which a search is given up and tried again.")),
    patience: rare(
      real(
        120,
        { max: 604800 },
        "Seconds that a search is tried again, at growing intervals, while the server is away or ends and is started anew; then it has failed for good (search.onFailure).",
      ),
    ),
    concurrency: rare(whole(8, { min: 1, max: 4096 }, "Searches under way at a time.")),
    breakAfter: rare(whole(8, {}, "Searches in a row that fail for good before the next ones fail at once; 0 never.")),
    breakSeconds: rare(real(30, {}, "Seconds in which they do; then one search goes through, to see whether the server is back.")),
    price: rare(real(0, {}, "Price of 1,000 searches, in cost.currency; 0 is not known.")),
  },
);

export type SimulatorSettings = z.output<typeof simulatorSettings>;
export type Bm25Settings = z.output<typeof bm25Settings>;
export type DenseSettings = z.output<typeof denseSettings>;
export type HttpSettings = z.output<typeof httpSettings>;
export type McpSettings = z.output<typeof mcpSettings>;

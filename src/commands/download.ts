/** `zerosearch download`: fetches a model from the Hub into the local cache, or says where it is. */
import type { ArgumentSpec } from "../config/index.ts";
import { findShown } from "../setup/download-progress.ts";
import { ConfigError } from "../util/errors.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch download",
  summary: "Fetches a model of the Hugging Face Hub into the local cache, or what is missing of it, and prints its folder.",
  words: ["ID"],
  options: {
    revision: { value: "REVISION", doc: "Branch, tag or commit (main); also written ID@REVISION." },
    adapter: { doc: "It is a LoRA adapter, as PEFT writes them." },
  },
};

const environment = `
ID is ORGANISATION/NAME, such as Qwen/Qwen2.5-3B. A download that was interrupted goes on where it stopped. Every command takes ids where it
takes folders of models, and fetches what is not in the cache; this one also asks for a newer commit of what is there.

Environment variables, as Python's huggingface_hub has them:
  HF_HOME         Folder of the cache (~/.cache/huggingface), which has the models in hub/; HF_HUB_CACHE names that itself.
  HF_TOKEN        Access token for gated and private models; else the file HF_TOKEN_PATH, or token in HF_HOME. It is shown nowhere.
  HF_ENDPOINT     Another address than https://huggingface.co: a mirror.
  HF_HUB_OFFLINE  1: ask nobody, use the cache only.
`;

/** Bar and notes go to stderr, the folder alone to stdout. Exit code 130 when interrupted. */
export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec, environment);
  if (read === null) return;
  const { options, words } = read;
  const source = sourceOf(words[0], options.get("revision"));
  const kind = options.has("adapter") ? "adapter" : "model";
  await untilInterrupted(async (signal) => say((await findShown(source, { kind, update: true, signal }, process.stderr)).folder), {
    leave: () => process.stderr.write("Interrupted: the same command goes on where this one stopped.\n"),
  });
}

function sourceOf(id: string | undefined, revision: string | undefined): string {
  if (id === undefined)
    throw new ConfigError({ where: "zerosearch download", what: "no model is named", expected: "an id such as Qwen/Qwen2.5-3B" });
  if (revision === undefined) return id;
  if (id.includes("@")) throw new ConfigError({ where: "--revision", what: `is given twice: ${id} has one, too`, got: revision });
  return `${id}@${revision}`;
}

/** What a model may be given as: the name of a folder, or a Hub id with, if wanted, a revision. */

/** `model`: config.json, weights and tokenizer. `adapter`: a LoRA adapter as PEFT writes it. */
export type ModelKind = "model" | "adapter";

/** What is looked for in a repository: what makes a model, or one file of a data set, by its path there. */
export type Wanted = ModelKind | { readonly file: string };

/** A repository of the Hub at a revision: a branch, a tag, or a commit. */
export interface HubId {
  /** `organisation/name` */
  readonly id: string;
  /** A model unless told. */
  readonly type?: "model" | "dataset";
  readonly revision: string;
}

export const defaultRevision = "main";

/** The file that makes a folder what it is. */
export const markOf: Readonly<Record<ModelKind, string>> = { model: "config.json", adapter: "adapter_config.json" };

const name = /^[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?$/;

/**
 * Reads `organisation/name` or `organisation/name@revision`. Null where it cannot be a Hub id: other paths, and names that the Hub does
 * not give (https://huggingface.co/docs/huggingface_hub, validate_repo_id: no `--`, no `..`, at most 96 characters).
 */
export function parseHubId(source: string): HubId | null {
  const at = source.indexOf("@");
  const id = at < 0 ? source : source.slice(0, at);
  const revision = at < 0 ? defaultRevision : source.slice(at + 1);
  const parts = id.split("/");
  if (parts.length !== 2 || !parts.every((part) => name.test(part))) return null;
  if (id.length > 96 || id.includes("--") || id.includes("..") || id.endsWith(".git") || !isRevision(revision)) return null;
  return { id, revision };
}

/** A repository as the Hub's addresses have it. */
export function pathOfRepo({ id, type }: Omit<HubId, "revision">): string {
  return type === "dataset" ? `datasets/${id}` : id;
}

/** Whether a text can be a revision; it also becomes the name of a file below `refs/`, so nothing that climbs out of there. */
export function isRevision(text: string): boolean {
  return text.split("/").every((part) => /^[A-Za-z0-9_][\w.+-]*$/.test(part) && !part.includes("..") && !part.endsWith(".lock"));
}

export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/** Where the Hub and its cache are and who asks, from the environment variables that Python's huggingface_hub reads. */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { ConfigError } from "../util/errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface HubSettings {
  /** Folder of the cache, absolute. */
  readonly cache: string;
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** The variable that forbids asking the Hub; null where it may be asked. */
  readonly offline: string | null;
  readonly token: Token | null;
  /** Whether snapshots link to blobs; without, files lie in the snapshots themselves. */
  readonly symlinks: boolean;
}

/** An access token that no message, JSON or inspection shows. */
export class Token {
  /** Where it came from, for messages. */
  readonly origin: string;
  readonly #value: string;
  constructor(value: string, origin: string) {
    this.#value = value;
    this.origin = origin;
  }

  /** Value of the Authorization header. */
  header(): string {
    return `Bearer ${this.#value}`;
  }

  /** A text without the token in it. */
  redact(text: string): string {
    return text.replaceAll(this.#value, "[token]");
  }
}

/**
 * @throws ConfigError for an endpoint that is no address, or a token that cannot be one.
 */
export async function readHubSettings(env: Environment = process.env): Promise<HubSettings> {
  const home = folder(env, "HF_HOME") ?? join(folder(env, "XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface");
  return {
    cache: resolve(folder(env, "HF_HUB_CACHE") ?? folder(env, "HUGGINGFACE_HUB_CACHE") ?? join(home, "hub")),
    endpoint: endpointOf(given(env, "HF_ENDPOINT") ?? "https://huggingface.co"),
    offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].find((name) => isTrue(env, name)) ?? null,
    token: await tokenOf(env, home),
    symlinks: !isTrue(env, "HF_HUB_DISABLE_SYMLINKS"),
  };
}

async function tokenOf(env: Environment, home: string): Promise<Token | null> {
  for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
    const value = given(env, name);
    if (value !== undefined) return checkedToken(value, name);
  }
  const file = folder(env, "HF_TOKEN_PATH") ?? join(home, "token");
  // Most people have no token.
  const text = (await readFile(file, "utf8").catch(() => "")).trim();
  return text === "" ? null : checkedToken(text, file);
}

function checkedToken(value: string, origin: string): Token {
  // fetch would name the value in its own complaint.
  if (!/^[\x21-\x7e]+$/.test(value))
    throw new ConfigError({ where: origin, what: "holds no access token: it has spaces, line breaks or other letters in it" });
  return new Token(value, origin);
}

function endpointOf(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new ConfigError({ where: "HF_ENDPOINT", what: "is no address", expected: "such as https://huggingface.co" });
  }
  // Neither complaint shows the value: it may hold a password.
  if (url.username !== "" || url.password !== "")
    throw new ConfigError({ where: "HF_ENDPOINT", what: "has a user name or password in it", hint: "give the token as HF_TOKEN" });
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new ConfigError({ where: "HF_ENDPOINT", what: "is no web address", expected: "https://... or http://...", got: url.protocol });
  return `${url.origin}${url.pathname}`.replace(/\/+$/, "");
}

function folder(env: Environment, name: string): string | undefined {
  const value = given(env, name);
  return value?.replace(/^~(?=$|[/\\])/, homedir());
}

function given(env: Environment, name: string): string | undefined {
  const value = env[name]?.trim();
  return value === "" ? undefined : value;
}

function isTrue(env: Environment, name: string): boolean {
  return /^(1|on|yes|true)$/i.test(env[name]?.trim() ?? "");
}

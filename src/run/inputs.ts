/** What a run's results depend on besides its settings, as hashes: weights, tokenizers, data, a user's own modules, and this program. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { hashFile } from "../checkpoint/run-state.ts";
import { keys, valueAt } from "../config/keys.ts";
import { packageFolder, type Config } from "../config/index.ts";

/** SHA-256 by name: `data.train`, `model.policy/model.safetensors`, `program`. */
export type InputHashes = Readonly<Record<string, string>>;

/** The names under which the program itself is hashed: other code may still compute the same. */
export const codeInputs: readonly string[] = ["program", "kernels"];

/** The files of a model folder that anything is read from. */
const modelFile =
  /\.(safetensors|jinja)$|^(config|generation_config|adapter_config|tokenizer|tokenizer_config|model\.safetensors\.index)\.json$/;

/**
 * Hashes every file that `config` names outside `output`, file by file in models' folders, and the program.
 * @param config - with folders in place of Hub ids
 * @throws FileError where one cannot be read.
 */
export async function hashInputs(config: Config): Promise<InputHashes> {
  const hashes: Record<string, string> = {};
  for (const { name, file } of inputFiles(config)) hashes[name] = await hashFile(file);
  const { record, replay } = config.search;
  // One that is written as well is another after each step.
  if (replay !== null && replay !== record && existsSync(replay)) hashes["search.replay"] = await hashFile(replay);
  return { ...hashes, ...hashProgram() };
}

function inputFiles(config: Config): { readonly name: string; readonly file: string }[] {
  return keys
    .filter(({ path, section }) => path && section !== "output")
    .flatMap(({ key, names }) => {
      const given = valueAt(config, key);
      const several = Array.isArray(given)
        ? (given as string[]).map((value, i) => ({ key: `${key}[${i}]`, value }))
        : [{ key, value: given }];
      return several.map((one) => ({ ...one, names }));
    })
    .flatMap(({ key, value, names }) => {
      if (typeof value !== "string" || names.includes(value) || !existsSync(value)) return [];
      if (!statSync(value).isDirectory()) return [{ name: key, file: value }];
      const files = readdirSync(value).filter((name) => modelFile.test(name));
      return files.sort().map((name) => ({ name: `${key}/${name}`, file: join(value, name) }));
    });
}

/** The code that runs, source or compiled, with the prompts and descriptions of engines that come with it, and the kernels of all devices. */
function hashProgram(): InputHashes {
  const code = relative(packageFolder, fileURLToPath(new URL("../", import.meta.url))).replaceAll("\\", "/");
  const files = filesBelow(code, import.meta.url.endsWith(".js") ? /\.js$/ : /\.ts$/);
  return {
    program: hashAll([
      ...files.filter((name) => !/^dist\/(bench|examples)\//.test(name)),
      ...["configs/prompts", "configs/engines"].flatMap((folder) => filesBelow(folder, /\.yaml$/)),
    ]),
    kernels: hashAll([...filesBelow("dist/kernels", /\.wasm$/), ...filesBelow("kernels/wgsl", /\.wgsl$/)]),
  };
}

/** Names in the package. */
function filesBelow(folder: string, kind: RegExp): string[] {
  const place = join(packageFolder, folder);
  if (!existsSync(place)) return [];
  const names = readdirSync(place, { recursive: true, encoding: "utf8" }).filter((name) => kind.test(name));
  return names.map((name) => `${folder.replace(/\/$/, "")}/${name.replaceAll("\\", "/")}`).sort();
}

function hashAll(names: readonly string[]): string {
  const hash = createHash("sha256");
  for (const name of names) hash.update(`${name}\n`).update(readFileSync(join(packageFolder, name)));
  return hash.digest("hex");
}

/** Kinds of settings: what a configuration's sections, and those of search engines, are written with. */
import { z } from "zod";

export const whole = (value: number, { min = 0, max = Number.MAX_SAFE_INTEGER }: Range, doc: string) =>
  z.number().int().min(min).max(max).default(value).describe(doc);
export const real = (value: number, { min = 0, max }: Range, doc: string) => {
  const number = z.number().min(min);
  return (max === undefined ? number : number.max(max)).default(value).describe(doc);
};
export const choice = <const T extends readonly [string, ...string[]]>(options: T, doc: string) =>
  z
    .enum(options)
    .default(options[0] as never)
    .describe(doc);
export const flag = (value: boolean, doc: string) => z.boolean().default(value).describe(doc);
export const path = (doc: string) => z.string().min(1).meta({ description: doc, path: true });
/** A folder, or a Hub id. */
export const model = (doc: string) => z.string().min(1).meta({ description: doc, path: true, model: true });
export const optionalModel = (doc: string) =>
  z.string().min(1).nullable().default(null).meta({ description: doc, path: true, model: true });
export const optionalText = (doc: string) => z.string().min(1).nullable().default(null).describe(doc);
/** A path, several, or null. */
export const optionalPaths = (doc: string) =>
  z
    .union([z.string().min(1), z.array(z.string().min(1)).min(1), z.null()])
    .default(null)
    .meta({ description: doc, path: true, list: true });
/** A text, several, or null. */
export const optionalTexts = (doc: string) =>
  z
    .union([z.string().min(1), z.array(z.string().min(1)).min(1), z.null()])
    .default(null)
    .meta({ description: doc, list: true });
export const optionalPath = (doc: string) => z.string().min(1).nullable().default(null).meta({ description: doc, path: true });
export const section = <T extends z.ZodRawShape>(doc: string, shape: T) =>
  z
    .strictObject(shape)
    .prefault({} as never)
    .describe(doc);

interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** One of `names`, or a module of the user's own: a path that begins with `./`, `../`, `/` or `{package}`. */
export const nameOrFile = (names: readonly string[], value: string, doc: string) =>
  tableEntry(names).default(value).meta({ description: doc, path: true, names });
export const nullableNameOrFile = (names: readonly string[], value: string, doc: string) =>
  tableEntry(names).nullable().default(value).meta({ description: doc, path: true, names });

/** One of `names`, or a text of the user's own: a .md or .txt file, its path written as that of a module. */
export const nameOrText = (names: readonly [string, ...string[]], doc: string) =>
  z
    .string()
    .refine((value) => names.includes(value) || isTextFile(value))
    .default(names[0])
    .meta({ description: doc, path: true, names, own: "a text file such as ./my-prompt.md" });

/** One of `names`, or a YAML file of the user's own, its path written as that of a module. */
export const nullableNameOrYaml = (names: readonly string[], doc: string) =>
  z
    .string()
    .refine((value) => names.includes(value) || (asPath.test(value) && /\.ya?ml$/.test(value)))
    .nullable()
    .default(null)
    .meta({ description: doc, path: true, names, own: "a YAML file such as ./my-engine.yaml" });

const tableEntry = (names: readonly string[]) => z.string().refine((value) => names.includes(value) || isModuleFile(value));

const asPath = /^(\.{1,2}\/|\/|[A-Za-z]:[\\/]|\{package\})/;

/** Whether a value names a module file, and no entry of a table. Which kinds are loaded is said where they are. */
export function isModuleFile(value: string): boolean {
  return asPath.test(value) && /\.[cm]?[jt]sx?$/.test(value);
}

/** Whether a value names a text file, and no entry of a table. */
export function isTextFile(value: string): boolean {
  return asPath.test(value) && /\.(md|txt)$/.test(value);
}

/** Any JSON values, by name. */
export const jsonRecord = (doc: string) => rare(z.record(z.string(), z.json()).default({}).describe(doc));
/** Variables of a chat template, by name. */
export const templateVariables = jsonRecord;

/** A setting that few people touch: shown by `--help all` only. */
export const rare = <T extends z.ZodType>(field: T): T => field.meta({ ...field.meta(), rare: true });

/** Command lines: options, settings (`key=value`) and plain words, for every program. */
import { ConfigError } from "../util/errors.ts";
import { nearest } from "../util/nearest.ts";

export interface OptionSpec {
  /** Name of the option's value in the help page; absent where it takes none. `[NAME]`: the value may be left out. */
  readonly value?: string;
  readonly doc: string;
}

export interface ArgumentSpec {
  /** The program, as it is called. */
  readonly program: string;
  /** One sentence. */
  readonly summary: string;
  /** By name, without the dashes. `help` is always there. */
  readonly options: Readonly<Record<string, OptionSpec>>;
  /**
   * Names of plain words, in order, for the help page; `[NAME]` may be left out, and of a last `[NAME ...]` there may be any number. None:
   * words that are no settings are an error.
   */
  readonly words?: readonly string[];
  /** Whether `key=value` settings are taken. */
  readonly settings?: boolean;
}

export interface Arguments {
  /** Given options: their value, or "" where none was given. */
  readonly options: ReadonlyMap<string, string>;
  readonly words: readonly string[];
  /** `key=value`, as given. */
  readonly settings: readonly string[];
}

/** @throws ConfigError for an unknown option (with the nearest one), a missing value, or a word too many. */
export function parseArguments(argv: readonly string[], spec: ArgumentSpec): Arguments {
  const known: Readonly<Record<string, OptionSpec>> = { ...spec.options, help: helpOf(spec) };
  const options = new Map<string, string>();
  const words: string[] = [];
  const settings: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] ?? "";
    if (argument === "--" && (spec.words?.length ?? 0) > 0) {
      words.push(...argv.slice(i + 1));
      break;
    }
    if (argument === "-h") options.set("help", "");
    else if (argument.startsWith("-")) {
      const [name, inline] = splitAt(argument.replace(/^-+/, ""), "=");
      const option = Object.hasOwn(known, name) ? known[name] : undefined;
      if (option === undefined) throw unknownOption(spec, argument, name, Object.keys(known));
      if (option.value === undefined) {
        if (inline !== undefined) throw new ConfigError({ where: `argument ${argument}`, what: `--${name} takes no value` });
        options.set(name, "");
      } else if (inline !== undefined) options.set(name, inline);
      else {
        const next = argv[i + 1];
        const optional = option.value.startsWith("[");
        const isValue = next !== undefined && !/^-(?!\d)/.test(next) && !(optional && next.includes("="));
        if (!isValue && !optional)
          throw new ConfigError({ where: `argument ${argument}`, what: "has no value", expected: `--${name} ${option.value}` });
        options.set(name, isValue ? next : "");
        if (isValue) i++;
      }
    } else if (spec.settings === true && isSetting(argument, spec)) settings.push(argument);
    else if (words.length < (spec.words?.length ?? 0) || spec.words?.at(-1)?.includes("...") === true) words.push(argument);
    else {
      const hint = `${spec.settings === true ? `settings are written key=value; ` : ""}see ${spec.program} --help`;
      throw new ConfigError({ where: `argument ${argument}`, what: "is not understood", hint });
    }
  }
  return { options, words, settings };
}

/** Usage, options and their meaning. */
export function argumentsHelp(spec: ArgumentSpec): string {
  const entries = Object.entries({ ...spec.options, help: helpOf(spec) }).map(
    ([name, { value, doc }]) => [`--${name}${value === undefined ? "" : ` ${value}`}`, doc] as const,
  );
  const width = Math.max(...entries.map(([left]) => left.length));
  const usage = [spec.program, ...(spec.words ?? []), "[options]", ...(spec.settings === true ? ["[key=value ...]"] : [])].join(" ");
  return `${spec.summary}\n\nUsage: ${usage}\n\n${entries.map(([left, doc]) => `  ${left.padEnd(width)}  ${doc}`).join("\n")}\n`;
}

function helpOf({ settings }: ArgumentSpec): OptionSpec {
  return settings === true ? { value: "[all]", doc: "Prints this page; `--help all` shows every setting." } : { doc: "Prints this page." };
}

function unknownOption(spec: ArgumentSpec, argument: string, name: string, known: readonly string[]): ConfigError {
  const guess = nearest(name, known);
  let hint = guess === undefined ? `see ${spec.program} --help` : `did you mean --${guess}?`;
  if (spec.settings === true && guess === undefined && (name.includes(".") || argument.includes("=")))
    hint = `settings are written without dashes: ${argument.replace(/^-+/, "")}`;
  return new ConfigError({ where: `argument ${argument}`, what: "unknown option", hint });
}

/** Where words are taken, one with white space before its `=` is a word: a question may hold an equation. */
function isSetting(argument: string, { words = [] }: ArgumentSpec): boolean {
  return argument.includes("=") && (words.length === 0 || /^[^\s=]*=/.test(argument));
}

function splitAt(text: string, mark: string): [string, string | undefined] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

import { ConfigError } from "../util/errors.ts";
import { findKey, keys, sections } from "./keys.ts";
import { nearest } from "../util/nearest.ts";
import { newName, whatBecameOf } from "./renames.ts";

/** The error for a key that does not exist, with the nearest one that does: in its section, then anywhere by its last part. */
export function unknownKey(where: string, name: string): ConfigError {
  const renamed = newName(name);
  if (renamed !== undefined)
    return new ConfigError({ where, what: `${name} has another name now`, expected: renamed, hint: `Write ${renamed} in its place.` });
  const gone = whatBecameOf(name);
  if (gone !== undefined) {
    const { instead, hint = keys.find(({ key }) => key === instead)?.doc } = gone;
    return new ConfigError({ where, what: `${name} is no more`, ...(instead === null ? {} : { expected: instead }), hint });
  }
  if (sections.some((one) => one.name === name && name !== ""))
    return new ConfigError({
      where,
      what: `${name} is a section`,
      expected: `one of its keys, such as ${keys.find(({ section }) => section === name)?.key ?? ""}=...`,
    });
  const guess = guessKey(name);
  const hint = `${guess === undefined ? "" : `did you mean ${guess}? `}All keys: node train.js --help`;
  return new ConfigError({ where, what: `unknown key ${name}`, hint });
}

function guessKey(name: string): string | undefined {
  const section = name.slice(0, Math.max(0, name.lastIndexOf(".")));
  const lastPart = (key: string) => key.slice(key.lastIndexOf(".") + 1);
  const among = (known: readonly string[]): string | undefined => {
    const guess = nearest(lastPart(name), known.map(lastPart));
    return known.find((key) => lastPart(key) === guess);
  };
  const names = keys.map(({ key }) => key);
  const neighbours = names.filter((key) => findKey(key)?.section === section);
  const sectionNames = section === "" ? sections.map((one) => one.name) : [];
  return among(neighbours) ?? nearest(name, sectionNames) ?? among(names) ?? nearest(name, names);
}

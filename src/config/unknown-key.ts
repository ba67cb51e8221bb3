import { ConfigError } from "../util/errors.ts";
import { keys, sections } from "./keys.ts";
import { nearest } from "./nearest.ts";
import { newName } from "./renames.ts";

/** The error for a key that does not exist, with the nearest one that does: in its section, then anywhere by its last part. */
export function unknownKey(where: string, name: string): ConfigError {
  const renamed = newName(name);
  if (renamed !== undefined)
    return new ConfigError({ where, what: `${name} has another name now`, expected: renamed, hint: `Write ${renamed} in its place.` });
  const guess = guessKey(name);
  const hint = `${guess === undefined ? "" : `did you mean ${guess}? `}All keys: node train.js --help`;
  return new ConfigError({ where, what: `unknown key ${name}`, hint });
}

function guessKey(name: string): string | undefined {
  const dot = name.lastIndexOf(".");
  const section = dot < 0 ? "" : name.slice(0, dot);
  const last = name.slice(dot + 1);
  const lastPart = (key: string) => key.slice(key.lastIndexOf(".") + 1);
  const neighbours = keys.filter((key) => key.section === section).map((key) => key.key);
  const inSection = nearest(last, neighbours.map(lastPart));
  if (inSection !== undefined) return neighbours.find((key) => lastPart(key) === inSection);
  const sectionName =
    dot < 0
      ? nearest(
          name,
          sections.map((one) => one.name),
        )
      : undefined;
  if (sectionName !== undefined) return sectionName;
  const anywhere = nearest(
    last,
    keys.map((key) => lastPart(key.key)),
  );
  if (anywhere !== undefined) return keys.find((key) => lastPart(key.key) === anywhere)?.key;
  return nearest(
    name,
    keys.map((key) => key.key),
  );
}

/** The engines that `--engines` names: those of the table, modules, and the simulator at one end of its noise or the other. */
import { nearest } from "../util/nearest.ts";
import { engineNames } from "../search/settings.ts";
import { ConfigError } from "../util/errors.ts";
import { isModuleFile } from "../util/fields.ts";

/** The configured simulator with another probability of noise, by name. */
export const simulatorVariants: Readonly<Record<string, number>> = { "simulated:useful": 0, "simulated:noisy": 1 };

/** The engine of the table, or the module, that an engine is opened as. */
export function openedAs(name: string): string {
  return Object.hasOwn(simulatorVariants, name) ? "simulated" : name;
}

/**
 * @param given - names with commas between
 * @throws ConfigError, with the nearest name, for one that nobody knows; for one that is there twice
 */
export function readEngines(given: string): string[] {
  const known = [...engineNames, ...Object.keys(simulatorVariants)];
  const names = given.split(",").map((name) => name.trim());
  for (const [i, name] of names.entries()) {
    if (names.indexOf(name) !== i)
      throw new ConfigError({ where: `--engines ${given}`, what: `${name} is there twice`, expected: "each engine once" });
    if (known.includes(name) || isModuleFile(name)) continue;
    const guess = nearest(name, known);
    throw new ConfigError({
      where: `--engines ${given}`,
      what: `there is no engine ${name === "" ? "without a name" : name}`,
      expected: `${known.join(", ")}, or a module such as ./my-engine.js`,
      hint: guess === undefined ? undefined : `did you mean ${guess}?`,
    });
  }
  return names;
}

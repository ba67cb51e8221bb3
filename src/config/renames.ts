/**
 * Settings that once had another name. Given by a user, an old name is an error that says the new one; in a configuration saved with a run it
 * is read as the new one, so that old runs still resume.
 */
import { isTree, type Tree } from "./tree.ts";

/** Old key: new key. */
const renamedKeys: Readonly<Record<string, string>> = {
  "rollout.maxNewTokensPerTurn": "rollout.maxNewTokens",
  "evaluation.documents": "bm25.documents",
};

/** A key that is no more. */
interface Gone {
  /** The key that is set in its place; null where nothing is. */
  readonly instead: string | null;
  /** Why, and what to do, where no other key's description says it. */
  readonly hint?: string;
}

/** In a saved configuration they are passed over: what is set in their place counts something else, or nothing is. */
const goneKeys: Readonly<Record<string, Gone>> = {
  "simulator.endpointRetries": { instead: "simulator.endpointPatience" },
  "device.blas": {
    instead: null,
    hint: "OpenBLAS is no longer used: the CPU's own matrix products are as fast on x86-64, and their bits do not depend on the batch, as OpenBLAS's did. Leave the key out.",
  },
};

/** Key: old value: new value. */
const renamedValues: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "simulator.prompt": { short: "quickstart" },
};

/** What a key is called now; undefined where it was never called so. */
export function newName(key: string): string | undefined {
  return Object.hasOwn(renamedKeys, key) ? renamedKeys[key] : undefined;
}

/** What became of a key that is no more; undefined where there never was one. */
export function whatBecameOf(key: string): Gone | undefined {
  return Object.hasOwn(goneKeys, key) ? goneKeys[key] : undefined;
}

/** What a value of a key is called now. */
export function newValue(key: string, value: unknown): string | undefined {
  const values = renamedValues[key];
  return values !== undefined && typeof value === "string" && Object.hasOwn(values, value) ? values[value] : undefined;
}

/** A saved configuration with the names of today. */
export function withNewNames(saved: Tree): Tree {
  const sections: Record<string, unknown> = {};
  const put = (key: string, value: unknown): void => {
    const [section = "", name] = key.split(".");
    if (name === undefined) sections[section] = value;
    else sections[section] = { ...(sections[section] as object | undefined), [name]: newValue(key, value) ?? value };
  };
  for (const [section, values] of Object.entries(saved))
    if (isTree(values)) {
      sections[section] ??= {};
      for (const [name, value] of Object.entries(values)) {
        const key = `${section}.${name}`;
        if (whatBecameOf(key) === undefined) put(newName(key) ?? key, value);
      }
    } else put(section, values);
  return sections;
}

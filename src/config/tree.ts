/** Values by key, as a file or a command line gives them. */
export interface Tree {
  readonly [key: string]: unknown;
}

export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value at a path; undefined where there is none. */
export function valueIn(tree: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, part) => (isTree(inner) ? inner[part] : undefined), tree);
}

/** A tree with one value. */
export function treeOf(path: readonly string[], value: unknown): Tree {
  return path.reduceRight<unknown>((inner, part) => ({ [part]: inner }), value) as Tree;
}

/** Values of later trees replace those of earlier ones, key by key. */
export function mergeTrees(trees: readonly Tree[]): Tree {
  return trees.reduce<Tree>((below, above) => {
    const merged: Record<string, unknown> = { ...below };
    for (const [key, value] of Object.entries(above)) {
      const old = merged[key];
      merged[key] = isTree(old) && isTree(value) ? mergeTrees([old, value]) : value;
    }
    return merged;
  }, {});
}

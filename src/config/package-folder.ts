import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Where this package is installed; `{package}` at the start of a path stands for it. */
export const packageFolder = fileURLToPath(new URL("../../", import.meta.url));

/** A path with the package's folder in place of `{package}`; undefined where it does not begin so. */
export function inPackage(path: string): string | undefined {
  return path.startsWith("{package}") ? join(packageFolder, path.slice("{package}".length)) : undefined;
}

/** Where programs keep what they can make again. Source: the XDG Base Directory Specification. */

/** `XDG_CACHE_HOME`, where it is an absolute folder, else `.cache` at home. */
export function cacheHome(env: Readonly<Record<string, string | undefined>>, home: string): string {
  const named = env["XDG_CACHE_HOME"] ?? "";
  return /^(\/|[A-Za-z]:[\\/])/.test(named) ? named : `${home}/.cache`;
}

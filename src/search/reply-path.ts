/**
 * Where something stands in a JSON reply, written as `data.webPages.value`: names with dots between, `[0]` for a place in a list, `[type=webpage]` for
 * the first of a list that has this, `.` for all of it. A text on the way that holds JSON is read as JSON.
 */

export type Step = { readonly name: string } | { readonly index: number } | { readonly name: string; readonly is: string };

/** Null where it is no path. */
export function parsePath(text: string): readonly Step[] | null {
  if (text === ".") return [];
  const steps: Step[] = [];
  let rest = text;
  while (rest !== "") {
    const [whole, dot, name, index, key, is] = /^(?:(\.?)([^.[\]]+)|\[(?:(\d{1,6})|([^=[\]]+)=([^[\]]*))\])/.exec(rest) ?? [];
    // A dot before every name but the first, and before no other.
    if (whole === undefined || (name !== undefined && (dot === ".") !== steps.length > 0)) return null;
    if (name !== undefined) steps.push({ name });
    else steps.push(index === undefined ? { name: key as string, is: is as string } : { index: Number(index) });
    rest = rest.slice(whole.length);
  }
  return steps.length === 0 ? null : steps;
}

/** What stands there; undefined where nothing does. */
export function valueAt(whole: unknown, steps: readonly Step[]): unknown {
  let value = whole;
  for (const step of steps) {
    const inside = typeof value === "string" ? parsed(value) : value;
    if (typeof inside !== "object" || inside === null) return undefined;
    if ("is" in step) value = Array.isArray(inside) ? inside.find((one: unknown) => ownOf(one, step.name) === step.is) : undefined;
    else if ("index" in step) value = Array.isArray(inside) ? inside[step.index] : undefined;
    else value = Array.isArray(inside) ? undefined : ownOf(inside, step.name);
  }
  return value;
}

function ownOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

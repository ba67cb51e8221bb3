/** The method that `rollout.method` names. */
import { methods } from "../agent/methods/index.ts";
import type { Method } from "../agent/methods/method.ts";
import { hasFunctions, loadModule, named } from "./user-module.ts";

/** One of the table, or a module of the user's own. @throws as `loadModule` */
export async function openMethod(name: string): Promise<Method> {
  const known = Object.entries<Method>(methods).find(([one]) => one === name);
  if (known !== undefined) return known[1];
  return loadModule(name, {
    key: "rollout.method",
    what: "a method: { run(question, context) }",
    take: (exported, file) => (hasFunctions(exported, "run") ? named(exported as Method, file) : null),
  });
}

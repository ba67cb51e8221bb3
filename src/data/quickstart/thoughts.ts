/**
 * What the scripted policy thinks after reading. The thought quotes: it begins with what was asked for, so that the next token is what followed that name in a
 * document if one tells it, and "unknown" if none does: "Germany has the capital Berlin." or "Germany has the capital unknown.". Whether the documents help is then
 * decided by the same look-up that copies the answer.
 */
import type { Hop } from "./documents.ts";
import { sentence } from "./relations.ts";

/** The first thought of a one-hop question. */
export const searchThought = "<think> I should search. </think>";

/** The first thought of a two-hop question. */
export const bridgeThought = "<think> First find the country. </think>";

/** The thought of a policy that answers from memory. */
export const memoryThought = "<think> I know this. </think>";

/** The thought after documents that tell the hop's value; `read` is what is read, right or wrong. */
export function foundThought(hop: Hop, read: string = hop.kind === "fact" ? hop.value : hop.country.name): string {
  const quoted =
    hop.kind === "fact" ? sentence("has", hop.relation, hop.country.name, read) : sentence("inverse", hop.relation, read, hop.value);
  return `<think> ${quoted} </think>`;
}

/** The thought after documents that do not tell it. */
export function missingThought(hop: Hop): string {
  return foundThought(hop, "unknown");
}

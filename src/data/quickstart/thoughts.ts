/**
 * What the scripted policy thinks after reading. The thought quotes: it begins with what was asked for, so that the next token is what followed that name in a
 * document if one tells it, and "is not there" if none does. Whether the documents help is then decided by the same look-up that copies the answer.
 */
import type { Hop } from "./documents.ts";
import { sentence } from "./relations.ts";

/**
 * - A: "capital of Germany is Berlin." / "capital of Germany is not there."
 * - B: "Germany has the capital Berlin." / "Germany is not there.", and for a bridge "Berlin is the capital of Germany." / "Berlin is not there."
 * - C: as B, but the relation comes first, so that only the value is left to look up: "capital: Germany has the capital Berlin." / "capital: Germany is not there."
 * - E: "Germany has the capital Berlin." / "Germany has the capital unknown.": the decision falls where the value is copied.
 */
export type ThoughtForm = "A" | "B" | "C" | "E";

/** The first thought of a one-hop question. */
export const searchThought = "<think> I should search. </think>";

/** The first thought of a two-hop question. */
export const bridgeThought = "<think> First find the country. </think>";

/** The thought of a policy that answers from memory. */
export const memoryThought = "<think> I know this. </think>";

function stem(form: ThoughtForm, hop: Hop): string {
  const noun = hop.relation.noun;
  const asked = hop.kind === "fact" ? hop.country.name : hop.value;
  if (form === "A") return hop.kind === "fact" ? `${noun} of ${asked}` : `country with ${noun} ${asked}`;
  return form === "B" || form === "E" ? asked : `${noun}: ${asked}`;
}

/** The thought after documents that tell the hop's value; `value` is what is read, right or wrong. */
export function foundThought(form: ThoughtForm, hop: Hop, read: string = hop.kind === "fact" ? hop.value : hop.country.name): string {
  if (form === "A") return `<think> ${stem(form, hop)} is ${read}. </think>`;
  const quoted =
    hop.kind === "fact" ? sentence("has", hop.relation, hop.country.name, read) : sentence("inverse", hop.relation, read, hop.value);
  return `<think> ${form === "C" ? `${hop.relation.noun}: ` : ""}${quoted} </think>`;
}

/** The thought after documents that do not tell it. */
export function missingThought(form: ThoughtForm, hop: Hop): string {
  if (form === "E") return foundThought(form, hop, "unknown");
  return `<think> ${stem(form, hop)} is not there. </think>`;
}

/**
 * A thought in three pieces: what it shares with the thought of the other outcome, the first word that differs (the decision whether the documents help), the rest.
 * @param other - the thought of the other outcome
 */
export function splitAtDecision(thought: string, other: string): [string, string, string] {
  const words = thought.split(/(?= )/);
  const others = other.split(/(?= )/);
  let at = 0;
  while (at < words.length - 1 && words[at] === others[at]) at++;
  return [words.slice(0, at).join(""), words[at] as string, words.slice(at + 1).join("")];
}

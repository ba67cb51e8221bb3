/**
 * Compiles stop strings to a table over token ids, so that a device can stop rows without knowing text.
 *
 * An Aho-Corasick automaton over bytes is run through the bytes of every token from every state. A tag may be spread over any
 * number of tokens and may begin and end anywhere inside one; the state after a token accepts as soon as a stop string has closed
 * anywhere in it, and that token is kept whole.
 *
 * Source: Aho & Corasick 1975, "Efficient string matching"; over tokens as in Willard & Louf 2023 (arXiv 2307.09702).
 */
import { RequestError } from "../util/errors.ts";
import { EOS_CODE, FIRST_STOP_CODE, type StopTable } from "./types.ts";

export interface StopSpecification {
  /** Bytes of each stop string. Where two close at the same byte, the first in this list wins. May be empty. */
  readonly stops: readonly Uint8Array[];
  /** Ids that end the sequence, whatever came before. */
  readonly eosIds: readonly number[];
  /** Bytes of a token. One without bytes (a special token) breaks a stop string that has begun. */
  readonly tokenBytes: (id: number) => Uint8Array;
  /** V, the columns of the model's logits: not smaller than the tokenizer's vocabulary. */
  readonly vocabulary: number;
}

/** The automaton over bytes: `next` [states, 256], `closes` [states]: 0, or 1 + the index of the stop string that closes there. */
interface ByteAutomaton {
  readonly states: number;
  readonly next: Uint32Array;
  readonly closes: Uint32Array;
}

/**
 * The table has one state for each proper prefix of a stop string, one accepting state for each stop string, and one for the end
 * of sequence: a few dozen rows. Building it takes V x states short steps.
 * @throws RequestError for an empty or repeated stop string, or an end-of-sequence id outside the vocabulary.
 */
export function compileStops({ stops, eosIds, tokenBytes, vocabulary }: StopSpecification): StopTable {
  check(stops, eosIds, vocabulary);
  const bytes = buildByteAutomaton(stops);
  const acceptBase = bytes.states;
  const eosState = acceptBase + stops.length;
  const states = eosState + 1;

  const accepts = new Uint32Array(states);
  for (let i = 0; i < stops.length; i++) accepts[acceptBase + i] = FIRST_STOP_CODE + i;
  accepts[eosState] = EOS_CODE;

  const transitions = new Uint32Array(states * vocabulary);
  fillFromStates(transitions, bytes, acceptBase, tokenBytes, vocabulary);
  // A row that has stopped is never run on; its table row is that of the start, so that every entry is valid.
  for (let state = acceptBase; state < states; state++) transitions.copyWithin(state * vocabulary, 0, vocabulary);
  for (const id of eosIds) for (let state = 0; state < states; state++) transitions[state * vocabulary + id] = eosState;
  return { states, vocabulary, start: 0, transitions, accepts };
}

export interface StoppingCodec {
  readonly eosIds: readonly number[];
  readonly tokenBytes: (id: number) => Uint8Array;
}

/** A table that stops at any of `texts`, in their order, and at the end-of-sequence ids. `vocabulary`: columns of the model's logits. */
export function compileTextStops(texts: readonly string[], { eosIds, tokenBytes }: StoppingCodec, vocabulary: number): StopTable {
  const encoder = new TextEncoder();
  return compileStops({ stops: texts.map((text) => encoder.encode(text)), eosIds, tokenBytes, vocabulary });
}

/** `compileTextStops` that compiles a list of texts once: sequences with the same stops share one table, of which the device keeps one copy. */
export function compileStopsOnce(codec: StoppingCodec, vocabulary: number): (texts: readonly string[]) => StopTable {
  const tables = new Map<string, StopTable>();
  return (texts) => {
    const key = JSON.stringify(texts);
    let table = tables.get(key);
    if (table === undefined) tables.set(key, (table = compileTextStops(texts, codec, vocabulary)));
    return table;
  };
}

/** Rows 0 .. acceptBase of the table. From most states a token falls back onto the path it takes from the start; that path is walked once. */
function fillFromStates(
  transitions: Uint32Array,
  bytes: ByteAutomaton,
  acceptBase: number,
  tokenBytes: (id: number) => Uint8Array,
  vocabulary: number,
): void {
  const { next, closes } = bytes;
  let path = new Uint32Array(64);
  for (let id = 0; id < vocabulary; id++) {
    const token = tokenBytes(id);
    const length = token.length;
    if (length === 0) continue; // back to the start, which is 0
    if (length > path.length) path = new Uint32Array(2 * length);

    let fromStart = 0;
    let startCloses = length; // the byte at which the path from the start first closes a stop string
    let state = 0;
    for (let i = 0; i < length; i++) {
      state = next[state * 256 + token[i]!]!;
      path[i] = state;
      if (closes[state] !== 0) {
        startCloses = i;
        state = acceptBase + closes[state]! - 1;
        break;
      }
    }
    fromStart = state;
    transitions[id] = fromStart;

    for (let first = 1; first < bytes.states; first++) {
      state = first;
      for (let i = 0; i < length; i++) {
        state = next[state * 256 + token[i]!]!;
        if (closes[state] !== 0) {
          state = acceptBase + closes[state]! - 1;
          break;
        }
        // The path from the start closes nothing before startCloses, and from here on the two are one.
        if (i < startCloses && state === path[i]) {
          state = fromStart;
          break;
        }
      }
      transitions[first * vocabulary + id] = state;
    }
  }
}

/** A trie with failure links resolved into a full table. */
function buildByteAutomaton(stops: readonly Uint8Array[]): ByteAutomaton {
  const children = [new Map<number, number>()];
  const closing: number[] = [0];
  stops.forEach((stop, index) => {
    let node = 0;
    for (const byte of stop) {
      let child = children[node]!.get(byte);
      if (child === undefined) {
        child = children.length;
        children.push(new Map<number, number>());
        closing.push(0);
        children[node]!.set(byte, child);
      }
      node = child;
    }
    closing[node] = index + 1;
  });

  const states = children.length;
  const next = new Uint32Array(states * 256);
  const fail = new Uint32Array(states);
  const queue: number[] = [0];
  for (let head = 0; head < queue.length; head++) {
    const node = queue[head]!;
    if (node !== 0) {
      next.copyWithin(node * 256, fail[node]! * 256, fail[node]! * 256 + 256);
      const suffix = closing[fail[node]!]!;
      if (suffix !== 0 && (closing[node] === 0 || suffix < closing[node]!)) closing[node] = suffix;
    }
    for (const [byte, child] of children[node]!) {
      fail[child] = node === 0 ? 0 : next[fail[node]! * 256 + byte]!;
      queue.push(child);
    }
    for (const [byte, child] of children[node]!) next[node * 256 + byte] = child;
  }
  return { states, next, closes: Uint32Array.from(closing) };
}

function check(stops: readonly Uint8Array[], eosIds: readonly number[], vocabulary: number): void {
  const where = "compileStops";
  if (!(Number.isInteger(vocabulary) && vocabulary > 0))
    throw new RequestError({ where, what: "the vocabulary has no size", expected: "a positive integer", got: String(vocabulary) });
  const seen = new Map<string, number>();
  stops.forEach((stop, index) => {
    if (stop.length === 0) throw new RequestError({ where, what: `stop string ${index} is empty`, expected: "at least one byte" });
    const key = stop.join(",");
    const before = seen.get(key);
    if (before !== undefined)
      throw new RequestError({
        where,
        what: `stop strings ${before} and ${index} are the same`,
        expected: "distinct stop strings",
        got: JSON.stringify(new TextDecoder().decode(stop)),
      });
    seen.set(key, index);
  });
  for (const id of eosIds) {
    if (!(Number.isInteger(id) && id >= 0 && id < vocabulary)) {
      throw new RequestError({
        where,
        what: "an end-of-sequence id is not in the vocabulary",
        expected: `an id below ${vocabulary}`,
        got: String(id),
      });
    }
  }
}

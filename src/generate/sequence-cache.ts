/** The cache of one sequence, and the nodes of the tree in which full blocks are found again. */
import { kvBlockTokens } from "../ops/kv-write.ts";

/** Tokens of a cache block: the unit in which attention merges keys. */
export const BLOCK_TOKENS = kvBlockTokens;

export function blocksFor(tokens: number): number {
  return Math.ceil(tokens / BLOCK_TOKENS);
}

/** A full block, under the prefix it continues. The root of a tree is no block. */
export interface PrefixNode {
  readonly block: number;
  readonly ids: readonly number[];
  readonly key: string;
  readonly parent: PrefixNode | null;
  readonly children: Map<string, PrefixNode>;
  /** Caches whose own blocks begin after this node. */
  readonly tails: Set<SequenceCache>;
  /** Whether what fills it has been asked of the device. */
  issued: boolean;
}

/** The cache of one sequence. */
export class SequenceCache {
  /** All ids of the sequence, growing; the cache covers a prefix of them. */
  readonly ids: readonly number[];
  /** Keeps apart what different weights computed. */
  readonly variant: string;
  /** Blocks in order of position; the first `nodes.length` are those of the nodes. */
  readonly blocks: number[] = [];
  readonly nodes: PrefixNode[] = [];
  /** Tokens in the cache, or about to be: a plan may be ahead of the device. */
  tokens = 0;
  /** Tokens whose keys and values have been asked of the device. */
  issued = 0;
  /** Whether full blocks can still be put into the tree: not after another sequence put the same ones there first. */
  publishes = false;
  #root: PrefixNode;

  constructor(ids: readonly number[], variant: string) {
    this.ids = ids;
    this.variant = variant;
    this.#root = newNode(-1, [], null, true);
  }

  get lastNode(): PrefixNode {
    return this.nodes.at(-1) ?? this.#root;
  }

  /** Takes its place, empty, under the root of its variant. */
  begin(root: PrefixNode, publishes: boolean): void {
    this.#root = root;
    this.publishes = publishes;
  }
}

export function newNode(block: number, ids: readonly number[], parent: PrefixNode | null, issued: boolean, key = ""): PrefixNode {
  return { block, ids, key, parent, children: new Map(), tails: new Set(), issued };
}

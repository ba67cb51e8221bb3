/**
 * Which 64-token cache blocks belong to which sequence, and which of them can be shared: numbers only, no device.
 *
 * Full blocks hang in a tree: a node is one block, found under its parent by the exact 64 ids it holds, so a path from the root is a
 * prefix and equal prefixes are the same blocks (radix tree as in SGLang, Zheng et al. 2023, arXiv 2312.07104; blocks and reference
 * counts as in vLLM, Kwon et al. 2023, arXiv 2309.06180). The last, partial block of a sequence is its own: it is written to. Where
 * another sequence has computed the same leading ids of a block, they are copied instead of computed.
 *
 * Blocks that nobody holds stay in the tree until their memory is wanted, the least recently used first.
 */
import { ZeroSearchError } from "../util/errors.ts";
import { BLOCK_TOKENS, blocksFor, newNode, type PrefixNode, type SequenceCache } from "./sequence-cache.ts";

export { BLOCK_TOKENS, blocksFor } from "./sequence-cache.ts";

/** Fewer leading ids than this are computed, not copied, unless they are all there is to compute. */
const leastCopy = 8;
/** A sequence waits for another's prefill, a batch later, if that spares it at least so many tokens, or all of them. */
const leastWait = 16;
/** Candidates looked at for a copy. */
const mostCandidates = 512;

/** A block copy (from, to) to be made before anything that follows. */
export type BlockCopy = readonly [from: number, to: number];

export type AcquireResult =
  | { readonly kind: "acquired"; readonly sharedTokens: number; readonly copy: BlockCopy | null }
  /** Another sequence's prefill in the batch being planned will spare most of the work: ask again with the next batch. */
  | { readonly kind: "wait" }
  | { readonly kind: "full"; readonly lacking: number };

export class BlockManager {
  readonly blocks: number;
  readonly #sharing: boolean;
  readonly #free: number[] = [];
  /** Sequences (and copies under way) that hold a block. */
  readonly #holders: Int32Array;
  readonly #nodeOf: (PrefixNode | undefined)[];
  readonly #idle = new Set<PrefixNode>();
  readonly #roots = new Map<string, PrefixNode>();
  readonly #pinned: number[] = [];
  readonly #planned = new Set<SequenceCache>();
  readonly #unissued: PrefixNode[] = [];
  #held = 0;
  #shared = 0;

  /** @param blocks how many there are; `sharing` false computes every sequence by itself, with the same results. */
  constructor(blocks: number, sharing: boolean) {
    this.blocks = blocks;
    this.#sharing = sharing;
    this.#holders = new Int32Array(blocks);
    this.#nodeOf = new Array<PrefixNode | undefined>(blocks).fill(undefined);
    for (let block = blocks - 1; block >= 0; block--) this.#free.push(block);
  }

  /** Blocks that some sequence holds. */
  get inUse(): number {
    return this.#held;
  }
  /** Blocks that several sequences hold. */
  get sharedBlocks(): number {
    return this.#shared;
  }
  /** Blocks to be had without taking any from a sequence. */
  get available(): number {
    return this.#free.length + this.#idle.size;
  }

  /**
   * Fills an empty cache with what is there already of the first `target` ids, and gives it blocks for the rest and for
   * `target + 1` tokens at least. Nothing changes unless the result is "acquired".
   * @param reserve blocks that must stay available besides
   */
  acquire(cache: SequenceCache, target: number, reserve: number): AcquireResult {
    cache.begin(this.#rootOf(cache.variant), this.#sharing);
    const { path, copy: found, gain } = this.#lookup(cache, target);
    let matched = path.length * BLOCK_TOKENS + (found?.tokens ?? 0);
    if (gain > matched && (gain === target || gain - matched >= leastWait)) return { kind: "wait" };

    let copy = found;
    for (const node of path) this.#hold(node.block);
    if (copy !== null) this.#hold(copy.block);
    const wanted = blocksFor(target + 1) - path.length;
    if (copy !== null && this.available < wanted + reserve) {
      // The block that is copied from is needed itself: a sequence of the cache's size finds room only without the copy.
      this.#release(copy.block);
      matched -= copy.tokens;
      copy = null;
    }
    if (this.available < wanted + reserve) {
      const lacking = wanted + reserve - this.available;
      for (let i = path.length - 1; i >= 0; i--) this.#release(path[i]!.block);
      return { kind: "full", lacking };
    }
    for (const node of path) {
      cache.nodes.push(node);
      cache.blocks.push(node.block);
    }
    for (let i = 0; i < wanted; i++) cache.blocks.push(this.#allocate());
    cache.tokens = matched;
    if (this.#sharing) cache.lastNode.tails.add(cache);
    this.#planned.add(cache);
    if (copy !== null) this.#pinned.push(copy.block); // held until the copy is issued
    return { kind: "acquired", sharedTokens: matched, copy: copy === null ? null : [copy.block, cache.blocks[path.length]!] };
  }

  /** Blocks until `tokens` fit; false, and nothing changed, when there are not enough. */
  grow(cache: SequenceCache, tokens: number): boolean {
    const wanted = blocksFor(tokens) - cache.blocks.length;
    if (wanted <= 0) return true;
    if (this.available < wanted) return false;
    for (let i = 0; i < wanted; i++) cache.blocks.push(this.#allocate());
    return true;
  }

  /** Notes that the cache will hold `tokens` tokens once the batch being planned has run, and puts blocks that are then full into the tree. */
  plan(cache: SequenceCache, tokens: number): void {
    cache.tokens = tokens;
    this.#planned.add(cache);
    while (cache.publishes && (cache.nodes.length + 1) * BLOCK_TOKENS <= tokens) {
      const parent = cache.lastNode;
      const first = cache.nodes.length * BLOCK_TOKENS;
      const ids = cache.ids.slice(first, first + BLOCK_TOKENS);
      const key = ids.join();
      if (parent.children.has(key)) {
        cache.publishes = false;
        break;
      }
      const node = newNode(cache.blocks[cache.nodes.length]!, ids, parent, false, key);
      parent.children.set(key, node);
      parent.tails.delete(cache);
      node.tails.add(cache);
      this.#nodeOf[node.block] = node;
      this.#unissued.push(node);
      cache.nodes.push(node);
    }
  }

  /** Everything planned so far has been asked of the device: from now on it can be copied. */
  markIssued(): void {
    for (const node of this.#unissued) node.issued = true;
    for (const cache of this.#planned) cache.issued = cache.tokens;
    for (const block of this.#pinned) this.#release(block);
    this.#unissued.length = 0;
    this.#planned.clear();
    this.#pinned.length = 0;
  }

  /** Whether the batch being planned uses the cache, which must not be dropped then. */
  isPlanned(cache: SequenceCache): boolean {
    return this.#planned.has(cache);
  }

  /** Gives all blocks of a cache back and empties it. */
  drop(cache: SequenceCache): void {
    cache.lastNode.tails.delete(cache);
    for (let i = cache.blocks.length - 1; i >= 0; i--) this.#release(cache.blocks[i]!);
    cache.blocks.length = 0;
    cache.nodes.length = 0;
    cache.tokens = 0;
    cache.issued = 0;
    this.#planned.delete(cache);
  }

  /** Forgets every prefix: the weights have changed, or nobody will ask again. Caches that are in use must have been dropped, or they stay what they were. */
  forget(): void {
    for (const node of this.#idle) {
      this.#nodeOf[node.block] = undefined;
      this.#free.push(node.block);
    }
    this.#idle.clear();
    for (let block = 0; block < this.blocks; block++) this.#nodeOf[block] = undefined;
    this.#roots.clear();
  }

  /** The longest prefix at hand, and the length that would be after the batch being planned. */
  #lookup(cache: SequenceCache, target: number): { path: PrefixNode[]; copy: { block: number; tokens: number } | null; gain: number } {
    const path: PrefixNode[] = [];
    if (!this.#sharing) return { path, copy: null, gain: 0 };
    const { ids } = cache;
    let node = cache.lastNode;
    while ((path.length + 1) * BLOCK_TOKENS <= target) {
      const first = path.length * BLOCK_TOKENS;
      const child = node.children.get(ids.slice(first, first + BLOCK_TOKENS).join());
      if (child === undefined) break;
      path.push(child);
      node = child;
    }
    const first = path.length * BLOCK_TOKENS;
    const limit = Math.min(BLOCK_TOKENS, target - first);
    const best = { block: -1, tokens: 0 };
    let later = 0;
    const consider = (theirs: readonly number[], offset: number, there: number, planned: number, block: number): void => {
      const length = Math.min(limit, planned);
      let same = 0;
      while (same < length && theirs[offset + same] === ids[first + same]) same++;
      const now = Math.min(same, there);
      if (now > best.tokens && (now >= leastCopy || now === limit)) {
        best.block = block;
        best.tokens = now;
      }
      if (same > later) later = same;
    };
    let candidates = 0;
    if (limit > 0) {
      for (const tail of node.tails) {
        if (tail === cache || ++candidates > mostCandidates) continue;
        consider(tail.ids, first, tail.issued - first, tail.tokens - first, tail.blocks[path.length] ?? -1);
      }
      candidates = 0;
      for (const child of node.children.values()) {
        if (++candidates > mostCandidates) break;
        consider(child.ids, 0, child.issued ? BLOCK_TOKENS : 0, BLOCK_TOKENS, child.block);
      }
    }
    return { path, copy: best.tokens > 0 ? best : null, gain: first + later };
  }

  #rootOf(variant: string): PrefixNode {
    let root = this.#roots.get(variant);
    if (root === undefined) this.#roots.set(variant, (root = newNode(-1, [], null, true)));
    return root;
  }

  #allocate(): number {
    let block = this.#free.pop();
    if (block === undefined) block = this.#evict();
    this.#holders[block] = 1;
    this.#held++;
    return block;
  }

  /** Takes the block of the least recently held prefix that no other prefix continues. */
  #evict(): number {
    for (const node of this.#idle) {
      if (node.children.size > 0) continue;
      this.#idle.delete(node);
      node.parent?.children.delete(node.key);
      this.#nodeOf[node.block] = undefined;
      return node.block;
    }
    throw new ZeroSearchError({ where: "BlockManager", what: "no block is free though some were counted as available" });
  }

  #hold(block: number): void {
    const holders = ++this.#holders[block]!;
    if (holders === 1) {
      this.#held++;
      const node = this.#nodeOf[block];
      if (node !== undefined) this.#idle.delete(node);
    } else if (holders === 2) this.#shared++;
  }

  #release(block: number): void {
    const holders = --this.#holders[block]!;
    if (holders === 1) this.#shared--;
    if (holders > 0) return;
    this.#held--;
    const node = this.#nodeOf[block];
    if (node === undefined) this.#free.push(block);
    else this.#idle.add(node);
  }
}

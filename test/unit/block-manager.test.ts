import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockManager } from "../../src/generate/block-manager.ts";
import { BLOCK_TOKENS, blocksFor, SequenceCache } from "../../src/generate/sequence-cache.ts";

const range = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i);

/** Acquires, and plans and issues the whole prefill, as a scheduler with one sequence a batch would. */
function fill(manager: BlockManager, cache: SequenceCache, target: number): number {
  const result = manager.acquire(cache, target, 0);
  if (result.kind !== "acquired") throw new Error(result.kind);
  manager.plan(cache, target);
  manager.markIssued();
  return result.sharedTokens;
}

describe("BlockManager", () => {
  test("the full blocks of a group's prompt exist once, are counted, and outlive the member that computed them", () => {
    const manager = new BlockManager(20, true);
    const prompt = range(200);
    const group = range(4).map(() => new SequenceCache([...prompt], ""));
    expect(fill(manager, group[0]!, 199)).toBe(0);
    for (const member of group.slice(1)) expect(fill(manager, member, 199)).toBe(199);
    expect(manager.inUse).toBe(3 + 4); // three full blocks together, one partial block each
    expect(manager.sharedBlocks).toBe(3);
    manager.drop(group[0]!);
    expect(manager.inUse).toBe(3 + 3);
    group.slice(1).forEach((member) => manager.drop(member));
    expect([manager.inUse, manager.sharedBlocks, manager.available]).toEqual([0, 0, 20]);
  });

  test("siblings in one batch wait for the leader's prefill, then copy the partial block and compute nothing", () => {
    const manager = new BlockManager(20, true);
    const [leader, sibling] = [new SequenceCache(range(100), ""), new SequenceCache(range(100), "")];
    expect(manager.acquire(leader, 99, 0)).toMatchObject({ kind: "acquired", sharedTokens: 0, copy: null });
    manager.plan(leader, 99);
    expect(manager.acquire(sibling, 99, 0)).toEqual({ kind: "wait" });
    manager.markIssued();
    const result = manager.acquire(sibling, 99, 0);
    expect(result).toEqual({ kind: "acquired", sharedTokens: 99, copy: [leader.blocks[1], sibling.blocks[1]] });
    expect(sibling.blocks[0]).toBe(leader.blocks[0]);
  });

  test("a sequence that needs every block gets them, with no block held for a copy", () => {
    const manager = new BlockManager(2, true);
    const before = new SequenceCache(range(130), "");
    fill(manager, before, 127);
    manager.plan(before, 128);
    manager.markIssued();
    manager.drop(before);
    // 40 tokens of the first block could be copied, from one of the two blocks there are.
    const other = new SequenceCache([...range(40), ...range(70, 1000)], "");
    expect(fill(manager, other, 109)).toBe(0);
    expect(manager.inUse).toBe(2);
  });

  test("a long common head is shared by full blocks and one copy, and only the rest is left", () => {
    const manager = new BlockManager(20, true);
    const head = range(150);
    const a = new SequenceCache([...head, ...range(40, 1000)], "");
    const b = new SequenceCache([...head, ...range(70, 2000)], "");
    fill(manager, a, 189);
    expect(fill(manager, b, 219)).toBe(150);
    manager.drop(a);
    manager.drop(b);
    const c = new SequenceCache([...head, ...range(70, 3000)], "");
    expect(fill(manager, c, 219)).toBe(150); // b's full third block is still in the tree
  });

  test("prefixes of another adapter, or after forget(), are not used", () => {
    const manager = new BlockManager(20, true);
    const a = new SequenceCache(range(100), "");
    fill(manager, a, 99);
    expect(fill(manager, new SequenceCache(range(100), "lora"), 99)).toBe(0);
    manager.drop(a);
    manager.forget();
    expect(fill(manager, new SequenceCache(range(100), ""), 99)).toBe(0);
  });

  test("without sharing every sequence has its own blocks", () => {
    const manager = new BlockManager(20, false);
    fill(manager, new SequenceCache(range(130), ""), 129);
    expect(fill(manager, new SequenceCache(range(130), ""), 129)).toBe(0);
    expect([manager.inUse, manager.sharedBlocks]).toEqual([6, 0]);
  });

  test("a request that does not fit changes nothing and says how many blocks are lacking", () => {
    const manager = new BlockManager(4, true);
    fill(manager, new SequenceCache(range(150), ""), 149);
    const second = new SequenceCache([...range(128), ...range(130, 500)], "");
    expect(manager.acquire(second, 257, 0)).toEqual({ kind: "full", lacking: 2 });
    expect([manager.inUse, manager.sharedBlocks, manager.available, second.blocks.length]).toEqual([3, 0, 1, 0]);
    expect(manager.grow(second, 129)).toBe(false);
  });

  test("idle prefixes give way, the least recently held first and leaves before what they continue", () => {
    const manager = new BlockManager(4, true);
    const old = new SequenceCache(range(129), "");
    fill(manager, old, 128);
    manager.drop(old);
    const young = new SequenceCache(range(65, 900), "");
    fill(manager, young, 64);
    manager.drop(young);
    expect(manager.available).toBe(4);
    const other = new SequenceCache(range(70, 5000), "");
    fill(manager, other, 69); // takes the free block and the end of `old`
    expect(fill(manager, new SequenceCache(range(80), ""), 79)).toBe(64);
  });

  test("random lives of sequences: a block is never held by two unless both hold the same prefix, and nothing is lost", () => {
    const action = fc.record({
      kind: fc.constantFrom("open", "grow", "drop", "issue"),
      pick: fc.nat(),
      length: fc.integer({ min: 1, max: 260 }),
      head: fc.nat({ max: 2 }),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const manager = new BlockManager(16, true);
        const open: SequenceCache[] = [];
        for (const { kind, pick, length, head } of actions) {
          const one = open[pick % Math.max(1, open.length)];
          if (kind === "open") {
            const cache = new SequenceCache(
              range(length).map((i) => (i < 100 ? i + 7 * head : i + 1000 * pick)),
              "",
            );
            const result = manager.acquire(cache, length - 1, 0);
            if (result.kind === "acquired") {
              manager.plan(cache, length - 1);
              open.push(cache);
            } else expect(cache.blocks).toHaveLength(0);
          } else if (kind === "grow" && one !== undefined) {
            (one.ids as number[]).push(...range(length % 80, 1e6 * (1 + (pick % open.length))));
            if (manager.grow(one, one.ids.length)) manager.plan(one, one.ids.length - 1);
            else (one.ids as number[]).length = one.tokens + 1;
          } else if (kind === "drop" && one !== undefined) {
            manager.drop(one);
            open.splice(open.indexOf(one), 1);
          } else manager.markIssued();

          const holders = new Map<number, SequenceCache[]>();
          for (const cache of open) {
            expect(cache.blocks.length).toBeGreaterThanOrEqual(blocksFor(cache.tokens));
            for (const block of cache.blocks) holders.set(block, [...(holders.get(block) ?? []), cache]);
          }
          for (const [block, caches] of holders) {
            const at = caches[0]!.blocks.indexOf(block);
            for (const cache of caches) {
              expect(cache.blocks.indexOf(block)).toBe(at);
              if (caches.length > 1)
                expect(cache.ids.slice(0, (at + 1) * BLOCK_TOKENS)).toEqual(caches[0]!.ids.slice(0, (at + 1) * BLOCK_TOKENS));
            }
          }
          manager.markIssued();
          expect(manager.inUse).toBe(holders.size);
          expect(manager.available + manager.inUse).toBe(16);
          expect(manager.sharedBlocks).toBe([...holders.values()].filter((caches) => caches.length > 1).length);
        }
      }),
      { numRuns: 500 },
    );
  });
});

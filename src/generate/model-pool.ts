/**
 * One model of a generator: its cache, its open sequences, and its lanes, one for each adapter, in which requests wait and run.
 * Admits waiting requests, prefills them, gives blocks to those that run, and takes them away when they are short.
 */
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import { KvCache } from "../nn/kv-cache.ts";
import { RequestError, ZeroSearchError } from "../util/errors.ts";
import { BlockManager, type BlockCopy } from "./block-manager.ts";
import { DecodeRows } from "./decode-rows.ts";
import { generatedBy, takeRow, type Harvest } from "./harvest.ts";
import { zeroCounts, type Lane, type PoolSettings } from "./pool-settings.ts";
import { prefill, type PrefillPiece } from "./prefill.ts";
import type { ActiveRequest, PagedSequence, SequenceOwner } from "./sequence.ts";
import { BLOCK_TOKENS, blocksFor } from "./sequence-cache.ts";
import { StackedStops } from "./stop-tables.ts";
import type { GeneratorCounts } from "./types.ts";

export class ModelPool implements SequenceOwner {
  readonly name: string;
  readonly decoder: Decoder;
  readonly device: Device;
  readonly cache: KvCache;
  readonly stops: StackedStops;
  readonly manager: BlockManager;
  readonly lanes = new Map<string, Lane>();
  readonly #settings: PoolSettings;
  readonly #sequences = new Set<PagedSequence>();
  readonly #wake: () => void;
  #counts = zeroCounts();
  #serial = 0;
  #clock = 0;
  #staleWeights = false;

  constructor(name: string, decoder: Decoder, settings: PoolSettings, wake: () => void) {
    this.name = name;
    this.decoder = decoder;
    this.device = decoder.device;
    this.#settings = settings;
    this.#wake = wake;
    this.cache = new KvCache(decoder.device, decoder.config, settings.blocks, settings.cacheDtype);
    this.stops = new StackedStops(decoder.device);
    this.manager = new BlockManager(settings.blocks, settings.sharing);
  }

  get context(): number {
    return this.decoder.maxPositions;
  }
  get vocabulary(): number {
    return this.decoder.config.vocabulary;
  }
  get hasWork(): boolean {
    for (const lane of this.lanes.values()) if (lane.waiting.length > 0 || lane.rows.rows.length > 0) return true;
    return false;
  }

  opened(sequence: PagedSequence): void {
    if (sequence.adapter !== undefined) this.decoder.adapterParameters(sequence.adapter); // throws for an unknown name
    this.#sequences.add(sequence);
    this.#counts.promptTokens += sequence.ids.length;
  }

  submit(active: ActiveRequest): void {
    const { sequence, remaining } = active;
    const tokens = sequence.ids.length - 1 + remaining;
    if (blocksFor(tokens) > this.#settings.blocks) {
      throw new RequestError({
        where: `generate with ${this.name}`,
        what: "the request does not fit the cache, even alone",
        expected: `at most ${this.#settings.blocks} blocks of ${BLOCK_TOKENS} tokens`,
        got: `${tokens} tokens (${sequence.ids.length} in the sequence, ${remaining} to sample), ${blocksFor(tokens)} blocks`,
        hint: "Raise its cacheBytes (rollout.cacheMiB), or lower maxNewTokens.",
      });
    }
    this.#lane(sequence.adapter).waiting.push(active);
    this.#wake();
  }

  closed(sequence: PagedSequence, active: ActiveRequest | null): void {
    if (active !== null) {
      const lane = this.#lane(sequence.adapter);
      if (lane.rows.rows.includes(active)) {
        lane.rows.set(lane.rows.rows.filter((row) => row !== active));
        this.stops.release(active.request.stop);
      } else lane.waiting = lane.waiting.filter((waiting) => waiting !== active);
    }
    this.manager.drop(sequence.cache);
    this.#sequences.delete(sequence);
    if (this.#sequences.size === 0 && !this.#settings.frozen) this.manager.forget();
  }

  /** The weights have changed: what was cached is computed again before it is next needed. Takes effect between two batches. */
  invalidate(): void {
    this.#staleWeights = true;
  }

  /** Whether steps under way must land before `admit`: they were asked for before the weights changed. */
  get mustLand(): boolean {
    return this.#staleWeights && this.#underWay;
  }

  /** Lets a lane's waiting requests in, in order, while rows and blocks suffice, and prefills them in as many batches as it takes. */
  admit(lane: Lane): void {
    if (this.#staleWeights) this.#startAfresh();
    while (lane.waiting.length > 0 && this.#admitBatch(lane)) continue;
  }

  /**
   * Asks for the lane's next steps; their harvest must be handed to `land`. Null where nothing can be asked for: the batch changes its size or
   * blocks have to be taken away, and steps are under way that must land first, or no row is left to run.
   */
  begin(lane: Lane): Promise<Harvest> | null {
    const { rows } = lane;
    if (rows.mustLand || !this.#makeRoom(lane)) {
      this.#counts.refusedBegins++;
      return null;
    }
    return rows.wantsSteps ? rows.begin() : null;
  }

  /** Takes in what steps of the lane have sampled. */
  land(lane: Lane, harvest: Harvest): void {
    lane.rows.landed(harvest);
    this.#counts.decodeSteps += harvest.steps;
    this.#counts.decodeRows += harvest.steps * harvest.rows.filter((active) => active !== null).length;
    this.#takeIn(lane, harvest);
  }

  /** Ends every request with `error`; sequences stay open and start from nothing. Steps under way are no longer waited for. */
  fail(error: unknown): void {
    for (const lane of this.lanes.values()) {
      const all = [...lane.rows.rows, ...lane.waiting];
      for (const active of lane.rows.rows) this.stops.release(active.request.stop);
      lane.rows.reset();
      lane.waiting = [];
      for (const active of all) this.#finish(active, () => active.reject(error));
    }
    this.manager.markIssued();
    for (const sequence of this.#sequences) this.manager.drop(sequence.cache);
    this.manager.forget();
  }

  takeCounts(): GeneratorCounts {
    const counts = { ...this.#counts, blocksInUse: this.manager.inUse, blocksShared: this.manager.sharedBlocks };
    this.#counts = zeroCounts();
    return counts;
  }

  /** Nothing was under way any more after steps of this model had landed, though requests were left: the device had nothing to do. */
  leftEmpty(): void {
    this.#counts.emptyLandings++;
  }

  dispose(): void {
    for (const sequence of [...this.#sequences]) sequence.close();
    for (const lane of this.lanes.values()) lane.rows.dispose();
    this.stops.dispose();
    this.cache.dispose();
  }

  #lane(adapter: string | undefined): Lane {
    const key = adapter ?? "";
    let lane = this.lanes.get(key);
    if (lane === undefined) {
      const rows = new DecodeRows(this, adapter, this.#settings, (replayed) => {
        this.#counts.intervals++;
        if (replayed) this.#counts.replayedIntervals++;
      });
      this.lanes.set(key, (lane = { adapter, rows, waiting: [], passedOver: 0 }));
    }
    return lane;
  }

  /** Rows of all lanes: they share the blocks. */
  #running(): ActiveRequest[] {
    return [...this.lanes.values()].flatMap((lane) => lane.rows.rows);
  }

  /**
   * Plans and issues one packed prefill. Requests whose prefix another one of the same batch is about to compute wait for the next.
   * Returns whether anything was done.
   */
  #admitBatch(lane: Lane): boolean {
    const { maxRows, maxPrefillTokens } = this.#settings;
    const entered: ActiveRequest[] = [];
    const pieces: PrefillPiece[] = [];
    const copies: BlockCopy[] = [];
    let tokens = 0;
    let progress = false;
    for (const active of lane.waiting) {
      if (lane.rows.rows.length + entered.length >= maxRows || tokens >= maxPrefillTokens) break;
      const { sequence } = active;
      const { cache } = sequence;
      const target = sequence.ids.length - 1;
      if (cache.blocks.length === 0) {
        const result = this.#acquire(sequence, target);
        if (result === "wait") continue;
        if (result === "full") break;
        if (result !== null) copies.push(result);
      } else if (!this.#growOrEvict(sequence, target + 1)) break;
      progress = true;
      const from = cache.tokens;
      const to = Math.min(target, from + maxPrefillTokens - tokens);
      if (to > from) {
        pieces.push({ sequence, from, to });
        tokens += to - from;
        this.manager.plan(cache, to);
      }
      if (to === target) entered.push(active);
      else break; // the batch is full; the rest of this one comes first in the next
    }
    if (!progress) return false;
    this.cache.copyBlocks(copies);
    if (pieces.length > 0) prefill(this.device, this.decoder, this.cache, lane.adapter, pieces);
    this.manager.markIssued();
    this.#counts.prefillTokens += tokens;
    this.#enter(lane, entered);
    return true;
  }

  #enter(lane: Lane, entered: readonly ActiveRequest[]): void {
    if (entered.length === 0) return;
    const inside = new Set(entered);
    lane.waiting = lane.waiting.filter((active) => !inside.has(active));
    for (const active of entered) {
      if (active.serial === Infinity) active.serial = this.#serial++;
      this.stops.use(active.request.stop);
    }
    lane.rows.set([...lane.rows.rows, ...entered]);
  }

  #acquire(sequence: PagedSequence, target: number): BlockCopy | null | "wait" | "full" {
    // Running rows fill a block every 64 steps: leave some for them, or they are preempted soon after.
    const reserve = Math.ceil(this.#running().length / 8);
    for (;;) {
      const result = this.manager.acquire(sequence.cache, target, reserve);
      if (result.kind === "wait") return "wait";
      if (result.kind === "acquired") {
        this.#counts.sharedTokens += result.sharedTokens;
        return result.copy;
      }
      if (!this.#evictIdle(sequence)) {
        if (reserve > 0 || this.manager.inUse > 0) return "full";
        throw new ZeroSearchError({
          where: `generate with ${this.name}`,
          what: "a request that fits alone found no blocks",
          got: `${result.lacking} lacking`,
        });
      }
    }
  }

  #growOrEvict(sequence: PagedSequence, tokens: number): boolean {
    while (!this.manager.grow(sequence.cache, tokens)) if (!this.#evictIdle(sequence)) return false;
    return true;
  }

  /** Drops the cache of a sequence that does not run, the longest idle first, those that wait last; it is computed again when it goes on. */
  #evictIdle(except: PagedSequence): boolean {
    const running = new Set(this.#running().map((active) => active.sequence));
    const age = (sequence: PagedSequence): number => sequence.lastUsed + (sequence.active === null ? 0 : Number.MAX_SAFE_INTEGER / 2);
    let oldest: PagedSequence | null = null;
    for (const sequence of this.#sequences) {
      if (sequence === except || sequence.cache.blocks.length === 0 || running.has(sequence) || this.manager.isPlanned(sequence.cache))
        continue;
      if (oldest === null || age(sequence) < age(oldest)) oldest = sequence;
    }
    if (oldest === null) return false;
    this.manager.drop(oldest.cache);
    this.#counts.evictions++;
    return true;
  }

  /** Whether any lane's steps have not landed. */
  get #underWay(): boolean {
    for (const lane of this.lanes.values()) if (lane.rows.ahead > 0) return true;
    return false;
  }

  /**
   * Blocks for the lane's next steps; false, and nothing changed, where they have to wait for steps under way. When there are not
   * enough, the request admitted last gives way.
   */
  #makeRoom(lane: Lane): boolean {
    const { rows } = lane;
    let wanted = 0;
    for (const active of rows.rows) wanted += Math.max(0, blocksFor(rows.tokensOf(active)) - active.sequence.cache.blocks.length);
    if (wanted <= this.manager.available) {
      for (const active of rows.rows) this.manager.grow(active.sequence.cache, rows.tokensOf(active));
      return true;
    }
    if (this.#underWay) return false;
    for (const active of [...rows.rows].sort((a, b) => a.serial - b.serial)) {
      const tokens = rows.tokensOf(active);
      while (rows.rows.includes(active) && !this.#growOrEvict(active.sequence, tokens)) {
        const last = this.#running().reduce((a, b) => (b.serial > a.serial ? b : a));
        this.#preempt(last);
      }
    }
    return true;
  }

  #preempt(active: ActiveRequest): void {
    const lane = this.#lane(active.sequence.adapter);
    lane.rows.set(lane.rows.rows.filter((row) => row !== active));
    this.stops.release(active.request.stop);
    this.manager.drop(active.sequence.cache);
    lane.waiting.unshift(active);
    this.#counts.preemptions++;
  }

  /** Everything cached is out of date. */
  #startAfresh(): void {
    this.#staleWeights = false;
    for (const active of this.#running().sort((a, b) => b.serial - a.serial)) this.#preempt(active);
    for (const sequence of this.#sequences) this.manager.drop(sequence.cache);
    this.manager.forget();
  }

  #takeIn(lane: Lane, harvest: Harvest): void {
    const done = new Set<ActiveRequest>();
    this.#clock++;
    for (const [r, active] of harvest.rows.entries()) {
      if (active === null || active.finished) continue; // closed, or stopped in earlier steps
      const { sequence } = active;
      const before = sequence.ids.length;
      if (takeRow(active, harvest, r, this.name) !== 0) done.add(active);
      this.#counts.sampledTokens += sequence.ids.length - before;
      sequence.lastUsed = this.#clock;
      this.manager.plan(sequence.cache, sequence.ids.length - 1);
    }
    this.manager.markIssued();
    if (done.size === 0) return;
    for (const active of done) {
      this.stops.release(active.request.stop);
      this.#finish(active, () => active.resolve(generatedBy(active)));
    }
    lane.rows.leave(done);
  }

  #finish(active: ActiveRequest, settle: () => void): void {
    active.finished = true;
    active.sequence.active = null;
    settle();
  }
}

/**
 * Continuous batching over several models on one device. One loop serves them all: it lets waiting requests in, prefills them, picks
 * a batch, decodes it for a few steps, and hands out what has finished, so that batches stay full while some sequences wait for
 * documents and others go on.
 *
 * Nothing that a request gets depends on the scheduling: logits do not depend on the batch, and random numbers are a function of
 * seed, purpose, trajectory and position.
 *
 * Source: Yu et al. 2022, "Orca" (iteration-level scheduling); Kwon et al. 2023, "PagedAttention" (arXiv 2309.06180).
 */
import type { Device, Dtype } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import { KvCache } from "../nn/kv-cache.ts";
import { ConfigError, RequestError } from "../util/errors.ts";
import { nextTask } from "../util/next-task.ts";
import type { Harvest } from "./harvest.ts";
import { ModelPool } from "./model-pool.ts";
import type { Lane } from "./pool-settings.ts";
import { samplingKey } from "./random-keys.ts";
import { PagedSequence } from "./sequence.ts";
import { blocksFor } from "./sequence-cache.ts";
import type { Generator, GeneratorCounts, OpenOptions, Sequence } from "./types.ts";

export interface GeneratorModel {
  readonly decoder: Decoder;
  /**
   * The weights never change, so prefixes may be kept while no sequence is open. Default false: they are forgotten when the last
   * sequence closes. Weights that change while sequences are open must be announced with `invalidate`.
   */
  readonly frozen?: boolean;
  /** Bytes for its key and value blocks. Default 128 MiB. */
  readonly cacheBytes?: number;
}

export interface BatchGeneratorOptions {
  readonly device: Device;
  /** By the name that `open` uses. */
  readonly models: Readonly<Record<string, GeneratorModel>>;
  /** Storage type of the cache; training must attend over the same. Default f32. */
  readonly cacheDtype?: Dtype;
  /** The largest decode batch. Default 64. */
  readonly maxRows?: number;
  /** Tokens of one prefill batch. Default 2048. */
  readonly maxPrefillTokens?: number;
  /** Decode steps between two reads. Default: what the device advises. */
  readonly readInterval?: number;
  /** Share the blocks of equal prefixes. Default true; the results are the same. */
  readonly sharing?: boolean;
}

/** Steps under way, one read each. */
interface Flight {
  readonly pool: ModelPool;
  readonly lane: Lane;
  readonly harvest: Promise<Harvest>;
}

/** How many times its rows count for the lane whose turn it was: changing lanes lets few requests in at a time, each with a prefill. */
const stickiness = 1.5;

interface Turn {
  readonly pool: ModelPool;
  readonly lane: Lane;
}

/** After so many steps of other lanes, a lane with fewer rows than theirs comes first. */
const mostPassedOver = 64;

/** Intervals under way where reads have their price: while one is taken in, the next runs. More would only keep requests waiting for their turn. */
const mostFlights = 2;

export class BatchGenerator implements Generator {
  readonly device: Device;
  readonly #pools = new Map<string, ModelPool>();
  #loop: Promise<void> | null = null;
  #looping = false;
  /** In the order in which they were asked for. */
  #flights: Flight[] = [];
  /** So many may be under way while one of them is waited for. */
  readonly #mostFlights: number;
  #disposed = false;
  /** Whose turn it was last. */
  #lane: Lane | null = null;

  /** The generator owns its caches, not the models. @throws ConfigError for wrong settings, or a cache that holds no block. */
  constructor(options: BatchGeneratorOptions) {
    const {
      device,
      models,
      cacheDtype = "f32",
      maxRows = 64,
      maxPrefillTokens = 2048,
      readInterval = device.readInterval,
      sharing = true,
    } = options;
    this.device = device;
    this.#mostFlights = readInterval > 1 ? mostFlights : 1;
    for (const [name, value] of Object.entries({ maxRows, maxPrefillTokens, readInterval })) {
      if (!(Number.isInteger(value) && value > 0))
        throw new ConfigError({ where: "BatchGenerator", what: `${name} is wrong`, expected: "a positive integer", got: String(value) });
    }
    for (const [name, { decoder, frozen = false, cacheBytes = 128 * 2 ** 20 }] of Object.entries(models)) {
      if (decoder.device !== device) throw new ConfigError({ where: "BatchGenerator", what: `model ${name} lives on another device` });
      const blockBytes = KvCache.bytesFor(decoder.config, 1, cacheDtype);
      const blocks = Math.floor(cacheBytes / blockBytes);
      if (!(blocks >= 1)) {
        throw new ConfigError({
          where: "BatchGenerator",
          what: `the cache of model ${name} holds no block`,
          expected: `at least ${blocksFor(decoder.maxPositions) * blockBytes} bytes for one sequence of ${decoder.maxPositions} tokens`,
          got: `${cacheBytes} bytes (blocks of ${blockBytes})`,
          hint: "Raise its cacheBytes (rollout.cacheMiB).",
        });
      }
      const settings = { maxRows, maxPrefillTokens, readInterval, sharing, cacheDtype, blocks, frozen };
      this.#pools.set(
        name,
        new ModelPool(name, decoder, settings, () => {
          this.#wake();
        }),
      );
    }
  }

  /**
   * A new sequence; nothing is computed before its first request.
   * @throws RequestError for an unknown model, an empty or too long prompt, or an id outside the vocabulary; ConfigError for an
   *   unknown adapter.
   */
  open(options: OpenOptions): Sequence {
    if (this.#disposed) throw new RequestError({ where: "open", what: "the generator has been disposed of" });
    const pool = this.#pool("open", options.model);
    const sequence = new PagedSequence(pool, options, samplingKey(options.seed, options.purpose, options.key, options.turn ?? 0));
    pool.opened(sequence);
    return sequence;
  }

  /**
   * To be called after the weights of a model (or of an adapter) have changed while sequences are open: what they have cached is
   * computed again. Between training steps that close their sequences it is not needed, unless the model was said to be frozen.
   */
  invalidate(model: string): void {
    this.#pool("invalidate", model).invalidate();
  }

  takeCounts(): ReadonlyMap<string, GeneratorCounts> {
    return new Map([...this.#pools].map(([name, pool]) => [name, pool.takeCounts()]));
  }

  /**
   * Resolves when no request is left and nothing is under way. Before other work takes much memory: else it depends on the device's speed what
   * is still held.
   */
  async rest(): Promise<void> {
    await this.#loop;
  }

  /** Ends all requests, closes all sequences and frees the caches. A second call does nothing. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#loop;
    for (const pool of this.#pools.values()) pool.dispose();
    this.#pools.clear();
  }

  #pool(where: string, name: string): ModelPool {
    const pool = this.#pools.get(name);
    if (pool === undefined)
      throw new RequestError({
        where,
        what: "unknown model",
        expected: [...this.#pools.keys()].join(", ") || "a model (none is registered)",
        got: name,
      });
    return pool;
  }

  #wake(): void {
    if (this.#looping) return;
    this.#looping = true;
    this.#loop = this.#run();
  }

  /**
   * Runs while there is work. Requests made in one go are all there before the first batch is planned. Where reads have their price,
   * the next steps are on the device before those under way are waited for: of the lane whose turn it is, or, where that has to wait, of another.
   */
  async #run(): Promise<void> {
    for (;;) {
      await nextTask();
      if (this.#disposed) {
        await Promise.allSettled(this.#flights.splice(0).map(({ harvest }) => harvest));
        return;
      }
      const busy = [...this.#pools.values()].filter((pool) => pool.hasWork);
      if (busy.length === 0 && this.#flights.length === 0) {
        this.#looping = false; // at once, so that the next request starts it again
        return;
      }
      if (this.#flights.length >= this.#mostFlights || !(await this.#beginAny(busy))) await this.#landOldest();
    }
  }

  /** Lets requests in, lane by lane, until steps of one could be asked for; false where all have to wait for what is under way. */
  async #beginAny(busy: readonly ModelPool[]): Promise<boolean> {
    const lanes = this.#ranked(busy);
    // Of a model whose blocks one that was passed over for long waits for, no other lane takes more of them.
    const reserved = new Set<ModelPool>();
    for (const next of lanes) {
      const { pool, lane } = next;
      if (pool.mustLand || reserved.has(pool)) continue;
      await this.#guarded(pool, () => {
        pool.admit(lane);
      });
      if (!lane.rows.wantsSteps) continue;
      const { steps } = lane.rows;
      if (!(await this.#begin(next))) {
        if (lane.passedOver >= mostPassedOver) reserved.add(pool);
        continue;
      }
      for (const one of lanes) one.lane.passedOver = one === next ? 0 : one.lane.passedOver + steps;
      this.#lane = lane;
      return true;
    }
    return false;
  }

  /** Whether steps of the lane could be asked for. */
  async #begin({ pool, lane }: Turn): Promise<boolean> {
    let begun = false;
    await this.#guarded(pool, () => {
      const harvest = pool.begin(lane);
      if (harvest === null) return;
      harvest.catch(() => undefined); // it is waited for later, or not at all when the pool fails before
      this.#flights.push({ pool, lane, harvest });
      begun = true;
    });
    return begun;
  }

  /** Waits for the steps asked for first, and hands out what has finished in them. */
  async #landOldest(): Promise<void> {
    const [oldest] = this.#flights;
    if (oldest === undefined) return;
    await this.#guarded(oldest.pool, async () => {
      const harvest = await oldest.harvest;
      this.#flights.shift();
      oldest.pool.land(oldest.lane, harvest);
      if (this.#flights.length === 0 && [...this.#pools.values()].some(({ hasWork }) => hasWork)) oldest.pool.leftEmpty();
    });
  }

  /** An error ends the requests of the model it concerns; the other models go on. */
  async #guarded(pool: ModelPool, work: () => void | Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#flights = this.#flights.filter((flight) => flight.pool !== pool);
      pool.fail(error);
    }
  }

  /**
   * The lanes with work, the one whose steps come next first: the one with most rows, those counted that wait to be let in, so that these
   * are prefilled together when their turn comes. The lane whose turn it was keeps it until another has half as many rows again. None is
   * passed over for ever.
   */
  #ranked(pools: readonly ModelPool[]): readonly Turn[] {
    const rank = ({ lane }: Turn): number => {
      if (lane.passedOver >= mostPassedOver) return Number.MAX_SAFE_INTEGER / 2 + lane.passedOver;
      return lane.rows.rows.length * (lane === this.#lane ? stickiness : 1) + lane.waiting.length;
    };
    const all = pools.flatMap((pool) => [...pool.lanes.values()].map((lane) => ({ pool, lane })));
    return all.filter(({ lane }) => lane.waiting.length > 0 || lane.rows.wantsSteps).sort((a, b) => rank(b) - rank(a));
  }
}

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../../src/device/device.ts";
import { BatchGenerator } from "../../../src/generate/scheduler.ts";
import { compileStops } from "../../../src/generate/stop-automaton.ts";
import type { Generated } from "../../../src/generate/types.ts";
import { packBatch } from "../../../src/nn/batch.ts";
import type { Decoder } from "../../../src/nn/decoder.ts";
import { gatherRows } from "../../../src/ops/gather-rows.ts";
import { logProb } from "../../../src/ops/log-prob.ts";
import { Scope } from "../../../src/tensor/scope.ts";
import { fromHost } from "../../../src/tensor/tensor.ts";
import {
  dataPresent,
  endless,
  goldenJson,
  greedy,
  idsOf,
  jobs,
  letterBytes,
  loadStories,
  openDevice,
  plain,
  runAll,
  runJob,
  stopTable,
  tinyDecoder,
  V,
} from "./world.ts";

let device: Device;
let decoder: Decoder;
let alone: Generated[][];
const list = jobs(38);

beforeAll(async () => {
  device = await openDevice();
  decoder = tinyDecoder(device);
  alone = [];
  for (const job of list) alone.push(...(await runAll(device, decoder, [job], { maxRows: 1, sharing: false })));
}, 120_000);

afterAll(async () => {
  decoder.dispose();
  await device.destroy();
});

describe("BatchGenerator: results do not depend on scheduling", () => {
  test("the jobs are of every kind: stops, ends of sequence, and budgets", () => {
    const reasons = alone.flat().map((generated) => generated.reason);
    expect(new Set(reasons)).toEqual(new Set(["stop", "eos", "length"]));
    expect(new Set(alone.flat().map((generated) => generated.stopIndex))).toEqual(new Set([-1, 0, 1]));
  });

  test("a request alone and among 37 others: the same ids and log-probabilities, bit for bit", async () => {
    expect(await runAll(device, decoder, list)).toEqual(alone);
  });

  test("in any order of submission, with 1, 7 and 64 rows", async () => {
    const reversed = [...list.keys()].reverse();
    const mixed = [...list.keys()].sort((a, b) => ((a * 17) % 38) - ((b * 17) % 38));
    expect(await runAll(device, decoder, list, { maxRows: 64 }, reversed)).toEqual(alone);
    expect(await runAll(device, decoder, list, { maxRows: 7 }, mixed)).toEqual(alone);
    expect(await runAll(device, decoder, list, { maxRows: 1 }, mixed)).toEqual(alone);
  });

  test("with sharing and without", async () => {
    expect(await runAll(device, decoder, list, { sharing: false })).toEqual(alone);
  });

  test("when prefill is cut into batches of 16 tokens", async () => {
    expect(await runAll(device, decoder, list, { maxPrefillTokens: 16 })).toEqual(alone);
  });

  test("when ids are read only every 5 steps", async () => {
    expect(await runAll(device, decoder, list, { readInterval: 5 })).toEqual(alone);
  });

  test("when blocks are so short that requests are preempted and idle sequences lose their caches", async () => {
    const blockBytes = 2 * 2 * 2 * 8 * 64 * 4;
    for (const sharing of [true, false]) {
      const generator = new BatchGenerator({ device, models: { tiny: { decoder, cacheBytes: 9 * blockBytes } }, sharing });
      const results = await Promise.all(list.map((job) => runJob(generator, job)));
      const counts = generator.takeCounts().get("tiny")!;
      await generator.dispose();
      expect(results).toEqual(alone);
      expect(counts.preemptions).toBeGreaterThan(0);
      expect(counts.evictions).toBeGreaterThan(0);
    }
  });

  test("with 1 and 2 threads", async () => {
    const other = await openDevice(2);
    const same = tinyDecoder(other);
    expect(await runAll(other, same, list)).toEqual(alone);
    same.dispose();
    await other.destroy();
  });

  test("two models interleaved in one generator give what each gives by itself", async () => {
    const second = tinyDecoder(device, 2, { num_hidden_layers: 1, num_key_value_heads: 4 });
    const others = jobs(20, "second");
    const apart = await runAll(
      device,
      second,
      others.map((job) => ({ ...job, open: { ...job.open, model: "tiny" } })),
    );
    const generator = new BatchGenerator({ device, models: { tiny: { decoder }, second: { decoder: second, frozen: true } } });
    const both = await Promise.all([...list, ...others].map((job) => runJob(generator, job)));
    expect(both).toEqual([...alone, ...apart]);
    await generator.dispose();
    second.dispose();
  });

  test("an adapter has a batch of its own; one that adds nothing changes nothing, another one does", async () => {
    const adapted = tinyDecoder(device);
    adapted.addAdapter("zero", { rank: 2, alpha: 4, seed: 1 });
    for (const [name, parameter] of adapted.addAdapter("other", { rank: 2, alpha: 4, seed: 2 }))
      if (name.includes("lora_B")) parameter.write(new Float32Array(parameter.size).fill(0.1));
    const few = list.slice(0, 12);
    const generator = new BatchGenerator({ device, models: { tiny: { decoder: adapted } } });
    const withAdapter = (adapter: string): Promise<Generated[][]> =>
      Promise.all(few.map((job) => runJob(generator, { ...job, open: { ...job.open, adapter } })));
    const [none, zero, other] = await Promise.all([
      Promise.all(few.map((job) => runJob(generator, job))),
      withAdapter("zero"),
      withAdapter("other"),
    ]);
    expect(none).toEqual(alone.slice(0, 12));
    expect(zero.map((turns) => turns.map((t) => t.ids))).toEqual(none.map((turns) => turns.map((t) => t.ids)));
    expect(other).not.toEqual(none);
    expect(() => generator.open({ ...few[0]!.open, adapter: "absent" })).toThrow(/no adapter "absent"/);
    await generator.dispose();
    adapted.dispose();
  });
});

describe("BatchGenerator: sequences", () => {
  const open = { model: "tiny", key: { step: 0, question: 0, rollout: 0 }, seed: 1, purpose: "evaluation" } as const;
  let generator: BatchGenerator;
  beforeAll(() => {
    generator = new BatchGenerator({ device, models: { tiny: { decoder } } });
  });
  afterAll(async () => {
    await generator.dispose();
  });

  test("append() and going on equals one prompt of all ids", async () => {
    const grown = generator.open({ ...open, prompt: idsOf(1, 70) });
    const first = await grown.generate({ stop: endless, maxNewTokens: 30, sampling: plain });
    grown.append(idsOf(2, 45));
    const more = await grown.generate({ stop: endless, maxNewTokens: 40, sampling: plain });
    const whole = generator.open({ ...open, prompt: [...idsOf(1, 70), ...first.ids, ...idsOf(2, 45)] });
    expect(await whole.generate({ stop: endless, maxNewTokens: 40, sampling: plain })).toEqual(more);
    expect(grown.ids).toEqual(whole.ids);
    grown.close();
    whole.close();
  });

  test("recorded log-probabilities are those of the training forward, bit for bit", async () => {
    for (const [temperature, cacheDtype] of [
      [1, "f32"],
      [0.7, "f32"],
      [1, "f16"],
      [1, "bf16"],
    ] as const) {
      const generator = new BatchGenerator({ device, models: { tiny: { decoder } }, cacheDtype });
      const sequence = generator.open({ ...open, prompt: idsOf(3, 60) });
      const { ids, logProbs } = await sequence.generate({
        stop: endless,
        maxNewTokens: 100,
        sampling: { temperature, topK: 10, topP: 0.9 },
      });
      const scope = new Scope();
      const recomputed = await scope
        .run(() => {
          const batch = packBatch(device, [idsOf(9, 33), sequence.ids]);
          const hidden = decoder.forward(batch, { cacheDtype: cacheDtype });
          const places = fromHost(
            device,
            Uint32Array.from(ids, (_, i) => 33 + 60 - 1 + i),
            [ids.length],
          );
          const rows = gatherRows(hidden, places);
          return { tensor: logProb(rows, decoder.headWeight, fromHost(device, Uint32Array.from(ids), [ids.length]), temperature).logProb };
        })
        .tensor.readFloats();
      expect([...recomputed]).toEqual(logProbs);
      scope.dispose();
      await generator.dispose();
    }
  });

  test("the token in which a stop string closes is kept whole and is the last", async () => {
    const words = ["xa", "bz", "q", "b", "xa", "ab"];
    const tokenBytes = (id: number): Uint8Array => new TextEncoder().encode(words[id % 6]);
    const stop = compileStops({ stops: [new TextEncoder().encode("ab")], eosIds: [], tokenBytes, vocabulary: V });
    let across = 0;
    for (let question = 0; question < 12; question++) {
      const sequence = generator.open({ ...open, key: { ...open.key, question }, prompt: [1] });
      const { ids, reason, stopIndex } = await sequence.generate({ stop, maxNewTokens: 200, sampling: plain });
      const text = ids.map((id) => words[id % 6]).join("");
      expect([reason, stopIndex]).toEqual(["stop", 0]);
      expect(text.indexOf("ab")).toBeGreaterThanOrEqual(text.length - 3);
      if (text.endsWith("abz")) across++;
      expect(sequence.ids).toEqual([1, ...ids]);
      sequence.close();
    }
    expect(across).toBeGreaterThan(0);
  });

  test("a budget ends with length after exactly so many tokens, the context likewise, and then there is no room", async () => {
    const sequence = generator.open({ ...open, prompt: idsOf(4, 300) });
    expect(await sequence.generate({ stop: endless, maxNewTokens: 7, sampling: plain })).toMatchObject({
      reason: "length",
      stopIndex: -1,
      ids: { length: 7 },
      logProbs: { length: 7 },
    });
    expect(sequence.room).toBe(13);
    expect(await sequence.generate({ stop: endless, maxNewTokens: 100, sampling: plain })).toMatchObject({
      reason: "length",
      ids: { length: 13 },
    });
    expect(sequence.room).toBe(0);
    await expect(sequence.generate({ stop: endless, maxNewTokens: 1, sampling: plain })).rejects.toThrow(
      /the context is full; expected room for one token \(of 320\), got 320 ids/,
    );
    expect(() => sequence.append([1])).toThrow(/the context is full; expected at most 0 more ids/);
    sequence.close();
  });

  test("the end-of-sequence id is kept and named", async () => {
    let seen = 0;
    for (let question = 0; question < 8; question++) {
      const sequence = generator.open({ ...open, key: { ...open.key, question }, prompt: [5] });
      const { ids, reason } = await sequence.generate({ stop: stopTable(), maxNewTokens: 250, sampling: plain });
      if (reason === "eos") {
        expect(ids.indexOf(V - 1)).toBe(ids.length - 1);
        seen++;
      }
      sequence.close();
    }
    expect(seen).toBeGreaterThan(0);
  });

  test("different rollouts, turns, seeds and purposes draw different numbers, equal ones the same", async () => {
    const request = { stop: endless, maxNewTokens: 20, sampling: plain };
    const draw = async (changes: object): Promise<string> => {
      const sequence = generator.open({ ...open, prompt: idsOf(6, 10), ...changes });
      const { ids } = await sequence.generate(request);
      sequence.close();
      return ids.join();
    };
    const all = await Promise.all(
      [
        {},
        { turn: 1 },
        { seed: 2 },
        { purpose: "policySample" },
        ...[{ rollout: 1 }, { step: 1 }, { question: 1 }].map((k) => ({ key: { ...open.key, ...k } })),
      ].map(draw),
    );
    expect(new Set(all).size).toBe(all.length);
    expect(await draw({})).toBe(all[0]);
  });

  test("wrong requests are refused, each with its reason", async () => {
    expect(() => generator.open({ ...open, model: "absent", prompt: [1] })).toThrow(/unknown model; expected tiny, got absent/);
    expect(() => generator.open({ ...open, prompt: [] })).toThrow(/the prompt is empty/);
    expect(() => generator.open({ ...open, prompt: [V] })).toThrow(/not a token id of the model; expected an id below 72, got 72/);
    expect(() => generator.open({ ...open, prompt: idsOf(1, 321) })).toThrow(/the context is full; expected at most 320 more ids.*got 321/);
    expect(() => generator.open({ ...open, turn: 256, prompt: [1] })).toThrow(/turn cannot be part of a random key/);
    const sequence = generator.open({ ...open, prompt: [1] });
    const request = { stop: endless, maxNewTokens: 2, sampling: greedy };
    await expect(sequence.generate({ ...request, maxNewTokens: 0 })).rejects.toThrow(/maxNewTokens is wrong/);
    await expect(sequence.generate({ ...request, sampling: { ...greedy, topP: 0 } })).rejects.toThrow(/topP is wrong/);
    await expect(
      sequence.generate({ ...request, stop: compileStops({ stops: [], eosIds: [], tokenBytes: letterBytes, vocabulary: 3 }) }),
    ).rejects.toThrow(/another vocabulary; expected 72, got 3/);
    const running = sequence.generate(request);
    await expect(sequence.generate(request)).rejects.toThrow(/a request is under way/);
    expect(() => sequence.append([1])).toThrow(/while a request is under way/);
    await running;
    sequence.close();
    sequence.close();
    await expect(sequence.generate(request)).rejects.toThrow(/after close/);
  });

  test("closing a sequence rejects its request and disturbs no other", async () => {
    const request = { stop: endless, maxNewTokens: 60, sampling: plain };
    const [a, b, c] = [0, 1, 2].map((rollout) => generator.open({ ...open, key: { ...open.key, rollout }, prompt: idsOf(8, 30) })) as [
      ReturnType<BatchGenerator["open"]>,
      ReturnType<BatchGenerator["open"]>,
      ReturnType<BatchGenerator["open"]>,
    ];
    const expected = await c.generate(request);
    const again = generator.open({ ...open, key: { ...open.key, rollout: 2 }, prompt: idsOf(8, 30) });
    const waiting = Promise.all([
      expect(a.generate(request)).rejects.toThrow(/closed while a request was under way/),
      b.generate(request),
      again.generate(request),
    ]);
    // When another has written a few of its tokens: by the clock, a busy machine may be done with all of them.
    const short = generator.open({ ...open, key: { ...open.key, rollout: 3 }, prompt: idsOf(8, 30) });
    await short.generate({ ...request, maxNewTokens: 4 });
    a.close();
    expect((await waiting)[2]).toEqual(expected);
    for (const sequence of [b, c, again, short]) sequence.close();
  });
});

describe("BatchGenerator: blocks and counts", () => {
  const open = { model: "tiny", key: { step: 0, question: 0, rollout: 0 }, seed: 1, purpose: "policySample" } as const;
  const request = { stop: endless, maxNewTokens: 5, sampling: plain };

  test("a group's prompt is computed once, and its full blocks exist once and are counted", async () => {
    const generator = new BatchGenerator({ device, models: { tiny: { decoder } } });
    const group = Array.from({ length: 8 }, (_, rollout) =>
      generator.open({ ...open, key: { ...open.key, rollout }, prompt: idsOf(1, 150) }),
    );
    await Promise.all(group.map((sequence) => sequence.generate(request)));
    const counts = generator.takeCounts().get("tiny")!;
    expect(counts).toMatchObject({
      promptTokens: 8 * 150,
      prefillTokens: 149,
      sharedTokens: 7 * 149,
      sampledTokens: 40,
      decodeSteps: 5,
      decodeRows: 40,
      blocksInUse: 2 + 8,
      blocksShared: 2,
    });
    group.forEach((sequence) => sequence.close());
    expect(generator.takeCounts().get("tiny")).toMatchObject({ promptTokens: 0, sampledTokens: 0, blocksInUse: 0, blocksShared: 0 });
    await generator.dispose();
  });

  test("a long head that prompts have in common is computed once, its partial block too", async () => {
    const generator = new BatchGenerator({ device, models: { tiny: { decoder, frozen: true } } });
    const prompts = [10, 20, 30].map((n) => [...idsOf(50, 150), n, ...idsOf(n, 19)]);
    const sequences = prompts.map((prompt, question) => generator.open({ ...open, key: { ...open.key, question }, prompt }));
    await Promise.all(sequences.map((sequence) => sequence.generate(request)));
    expect(generator.takeCounts().get("tiny")).toMatchObject({ prefillTokens: 169 + 19 + 19, sharedTokens: 300 });
    sequences.forEach((sequence) => sequence.close());
    const later = generator.open({ ...open, prompt: [...idsOf(50, 150), ...idsOf(77, 10)] });
    await later.generate(request);
    expect(generator.takeCounts().get("tiny")!.sharedTokens).toBeGreaterThanOrEqual(128); // kept although nobody held it: the weights are frozen
    later.close();
    await generator.dispose();
  });

  test("changed weights are never mixed with what the old ones cached", async () => {
    const changing = tinyDecoder(device, 1);
    const generator = new BatchGenerator({ device, models: { tiny: { decoder: changing } } });
    const prompt = idsOf(1, 150);
    const run = async (): Promise<Generated> => {
      const sequence = generator.open({ ...open, prompt });
      const result = await sequence.generate(request);
      sequence.close();
      return result;
    };
    const held = generator.open({ ...open, prompt });
    const before = await held.generate(request);
    const weight = changing.parameters().get("model.layers.0.self_attn.v_proj.weight")!;
    const old = await weight.readFloats();
    weight.write(old.map((x) => 1.5 * x));
    generator.invalidate("tiny");
    const changed = await run();
    const fresh = new BatchGenerator({ device, models: { tiny: { decoder: changing } } });
    const lone = fresh.open({ ...open, prompt });
    expect(changed).toEqual(await lone.generate(request));
    expect(changed).not.toEqual(before);
    held.close();
    weight.write(old);
    expect(await run()).toEqual(before); // all sequences were closed: nothing to announce
    await generator.dispose();
    await fresh.dispose();
    changing.dispose();
  });

  test("a request that cannot fit even alone is refused with what was needed and what there is", async () => {
    const blockBytes = 2 * 2 * 2 * 8 * 64 * 4;
    const generator = new BatchGenerator({ device, models: { tiny: { decoder, cacheBytes: 3 * blockBytes } } });
    const sequence = generator.open({ ...open, prompt: idsOf(1, 180) });
    await expect(sequence.generate({ ...request, maxNewTokens: 20 })).rejects.toThrow(
      /does not fit the cache.*expected at most 3 blocks of 64 tokens, got 199 tokens \(180 in the sequence, 20 to sample\), 4 blocks\n.*Raise its cacheBytes/s,
    );
    expect((await sequence.generate({ ...request, maxNewTokens: 12 })).ids).toHaveLength(12);
    await generator.dispose();
    expect(() => new BatchGenerator({ device, models: { tiny: { decoder, cacheBytes: 100 } } })).toThrow(
      /holds no block; expected at least/,
    );
  });

  test("each model has the blocks that its own bytes hold, whatever the others have", async () => {
    const blockBytes = 2 * 2 * 2 * 8 * 64 * 4;
    const models = { one: { decoder, cacheBytes: 2 * blockBytes - 1 }, other: { decoder, cacheBytes: 2 * blockBytes } };
    const generator = new BatchGenerator({ device, models });
    for (const [model, blocks] of [
      ["one", 1],
      ["other", 2],
    ] as const) {
      const sequence = generator.open({ ...open, model, prompt: idsOf(1, 10) });
      await expect(sequence.generate({ ...request, maxNewTokens: 64 * blocks })).rejects.toThrow(`at most ${blocks} blocks of 64 tokens`);
    }
    await generator.dispose();
  });

  test("an error on the device rejects the requests of that model, and the next one works", async () => {
    const broken = tinyDecoder(device, 5);
    const generator = new BatchGenerator({ device, models: { tiny: { decoder }, broken: { decoder: broken } } });
    const good = generator.open({ ...open, prompt: idsOf(1, 20) });
    const bad = generator.open({ ...open, model: "broken", prompt: idsOf(1, 20) });
    const logits = broken.logits.bind(broken);
    broken.logits = () => {
      throw new Error("lost");
    };
    const results = await Promise.allSettled([good.generate(request), bad.generate(request)]);
    expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected"]);
    expect((results[1] as PromiseRejectedResult).reason).toMatchObject({ message: "lost" });
    broken.logits = logits;
    expect((await bad.generate(request)).ids).toHaveLength(5);
    await generator.dispose();
    broken.dispose();
  });

  test("memory is flat over 50 requests, and all of it comes back", async () => {
    const before = device.memory().inUse;
    const generator = new BatchGenerator({ device, models: { tiny: { decoder } } });
    const levels: number[] = [];
    for (let round = 0; round < 5; round++) {
      await Promise.all(jobs(10).map((job) => runJob(generator, job)));
      levels.push(device.memory().inUse);
    }
    expect(new Set(levels).size).toBe(1);
    await generator.dispose();
    await generator.dispose();
    expect(device.memory().inUse).toBe(before);
    expect(() => generator.open({ ...open, prompt: [1] })).toThrow(/disposed/);
  });

  test("it rests when nothing is under way, even where a request was given up: then it holds what it held before it captured steps", async () => {
    const generator = new BatchGenerator({ device, models: { tiny: { decoder } }, readInterval: 4 });
    await generator.rest();
    // one step at a time: nothing is captured, and the tensors of four rows are there
    await Promise.all([1, 2, 3].map((i) => generator.open({ ...open, prompt: idsOf(i, 20) }).generate({ ...request, maxNewTokens: 1 })));
    await generator.rest();
    const before = device.memory().inUse;
    const sequences = [1, 2, 3].map((i) => generator.open({ ...open, prompt: idsOf(i, 20) }));
    const ends = sequences.map((sequence) =>
      sequence.generate({ ...request, maxNewTokens: 100 }).then(
        () => "done",
        () => "given up",
      ),
    );
    while (sequences[0]!.ids.length < 50) await new Promise((resolve) => setImmediate(resolve));
    sequences[0]!.close();
    await generator.rest();
    const soon = new Promise<string>((resolve) => setImmediate(resolve, "under way"));
    expect(await Promise.all(ends.map((end) => Promise.race([end, soon])))).toEqual(["given up", "done", "done"]);
    for (const sequence of sequences) sequence.close();
    if (device.kind !== "cpu") expect(device.memory().inUse).toBe(before);
    await generator.dispose();
  });

  test("disposing rejects what is under way", async () => {
    const generator = new BatchGenerator({ device, models: { tiny: { decoder } } });
    const sequence = generator.open({ ...open, prompt: idsOf(1, 20) });
    const rejected = expect(sequence.generate({ ...request, maxNewTokens: 300 })).rejects.toThrow(/closed while a request was under way/);
    setTimeout(() => void generator.dispose(), 5);
    await rejected;
  });
});

describe.skipIf(!dataPresent)("BatchGenerator on stories260K (../shared/data)", () => {
  test("the golden 200 greedy ids", async () => {
    const golden = goldenJson<{ greedy_ids_from_BOS_200new: number[] }>("golden/stories260K_golden.json").greedy_ids_from_BOS_200new;
    const stories = loadStories(device);
    const generator = new BatchGenerator({ device, models: { stories: { decoder: stories } } });
    const stop = compileStops({ stops: [], eosIds: [], tokenBytes: () => new Uint8Array(0), vocabulary: 512 });
    const sequence = generator.open({
      model: "stories",
      key: { step: 0, question: 0, rollout: 0 },
      seed: 0,
      purpose: "evaluation",
      prompt: [golden[0]!],
    });
    const { ids } = await sequence.generate({ stop, maxNewTokens: 200, sampling: greedy });
    expect(ids).toEqual(golden.slice(1));
    await generator.dispose();
    stories.dispose();
  });
});

import { describe, expect, it } from "vitest";
import { zerosearch } from "../../src/agent/dialects/zerosearch.ts";
import { contextNotes, contextRoom } from "../../src/run/context-room.ts";
import type { Run } from "../../src/run/run.ts";

const rollout = { maxContextTokens: 4096, maxTurns: 5, maxNewTokens: 500, maxObservationTokens: 2048 };

describe("the room of a rollout's context", () => {
  it("is prompt + maxTurns x (maxNewTokens + maxObservationTokens), against the configuration's limit or the policy's positions", () => {
    expect(contextRoom(rollout as never, { prompt: 131, positions: 32768 })).toEqual({
      limit: 4096,
      needed: 131 + 5 * 2548,
      remaining: 3965,
      searches: 1,
    });
    expect(contextRoom(rollout as never, { prompt: 131, positions: 2048 })).toMatchObject({ limit: 2048, remaining: 1917, searches: 0 });
  });

  it("is one turn where nothing is searched, and never negative", () => {
    expect(contextRoom({ ...rollout, maxTurns: 0 } as never, { prompt: 100, positions: 64 })).toMatchObject({ needed: 600, remaining: 0 });
  });
});

describe("the note at the start of a run", () => {
  const notes = (settings: object, positions = 32768, searches = true) =>
    contextNotes({
      config: { rollout: { ...rollout, ...settings } },
      policy: { maxPositions: positions },
      method: { name: "m", dialect: zerosearch, searches },
      context: { prompts: { templates: { zerosearch: "{question}" } }, tokenizer: { encodePrompt: () => new Array<number>(131).fill(0) } },
      data: { train: [{ question: "Who?" }], validation: [], test: [] },
    } as unknown as Run);

  it("says how many tokens remain and what they hold", () => {
    expect(notes({})).toEqual([
      "note: rollouts end at 4096 tokens, rollout.maxContextTokens. The longest prompt leaves 3,965 of them, room for 1 of the 5 searches (rollout.maxTurns) at full length, which take 12,740",
    ]);
    expect(notes({ maxTurns: 3 }, 2048)).toEqual([
      "note: rollouts end at 2048 tokens, as the policy has no more positions; rollout.maxContextTokens is 4096. The longest prompt leaves 1,917 of them, room for 0 of the 3 searches (rollout.maxTurns) at full length, which take 7,644",
    ]);
  });

  it("is silent where all fits, and where nothing is searched", () => {
    expect(notes({ maxContextTokens: 131 + 5 * 2548 })).toEqual([]);
    expect(notes({}, 32768, false)).toEqual([]);
    expect(notes({}, 600, false)).toEqual([
      "note: rollouts end at 600 tokens, as the policy has no more positions; rollout.maxContextTokens is 4096. The longest prompt leaves 469 of them; the turn may take 500 (rollout.maxNewTokens)",
    ]);
    expect(notes({ maxContextTokens: 8192, maxTurns: 1 }, 4096)).toEqual([
      "note: rollouts end at 4096 tokens, as the policy has no more positions; rollout.maxContextTokens is 8192",
    ]);
  });
});

import { describe, expect, it } from "vitest";
import { Transcript } from "../../src/agent/transcript.ts";
import type { Sequence } from "../../src/generate/types.ts";

const question = { id: "q", question: "?", goldenAnswers: ["x"], dataSource: "t" };
const key = { step: 1, question: 2, rollout: 3 };
const sampling = { temperature: 0.7, topK: 0, topP: 1 };
const sequence = (ids: number[]): Sequence => ({
  ids,
  room: 0,
  append: () => undefined,
  generate: () => Promise.reject(new Error("not here")),
  close: () => undefined,
});

describe("transcript", () => {
  it("keeps mask and log-probabilities aligned with the ids over prompt, sampled and given tokens", () => {
    const transcript = new Transcript(2, key, sampling);
    transcript.sampled({ ids: [5, 6], logProbs: [-0.5, -0.25], reason: "stop", stopIndex: 0 }, "ab");
    transcript.given([7], "[c]");
    transcript.sampled({ ids: [8], logProbs: [-1], reason: "eos", stopIndex: -1 }, "d");
    const ids = [1, 2, 5, 6, 7, 8];
    const trajectory = transcript.finish(sequence(ids), question, "noAnswer", null);
    expect(trajectory).toMatchObject({
      key,
      sampling,
      promptLength: 2,
      lossMask: [0, 0, 1, 1, 0, 1],
      logProbs: [0, 0, -0.5, -0.25, 0, -1],
      text: "ab[c]d",
      turns: 2,
    });
    // The ids are a copy: a sequence may be reused or emptied after it is closed.
    ids.length = 0;
    expect(trajectory.ids).toEqual([1, 2, 5, 6, 7, 8]);
  });

  it("refuses a sequence that holds something else than was recorded", () => {
    const transcript = new Transcript(1, key, sampling);
    transcript.given([7], "c");
    expect(() => transcript.finish(sequence([1, 7, 8]), question, "noAnswer", null)).toThrow(
      "the sequence does not hold what was recorded; expected 2 tokens, got 3",
    );
  });
});

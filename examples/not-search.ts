/**
 * RL on another task than search: two turns against an environment of its own, by a small decoder that starts from random weights. The
 * policy is told which of four boxes to open and opens one (turn 1); the environment shows what lies there, a jewel or nothing; the
 * policy names the jewel (turn 2). What it sampled itself is shown as <word>; nothing else is in the loss.
 * Run: `node dist/examples/not-search.js`
 */
import {
  AdamW,
  BatchGenerator,
  compileStops,
  createDevice,
  decayGroups,
  Decoder,
  fromHuggingFace,
  rolloutMetrics,
  scoreTrajectories,
  update,
  type Trajectory,
  type TrajectoryKey,
} from "zerosearch";

const words = ["box1", "box2", "box3", "box4", "ruby", "opal", "jade", "onyx", "nothing", "open"];
const [jewels, nothing, open] = [4, 8, 9];
const sampling = { temperature: 1, topK: 0, topP: 1 };
const [questions, groupSize, steps] = [16, 8, 60];

const device = await createDevice();
const policy = Decoder.initialise(
  fromHuggingFace({
    architectures: ["LlamaForCausalLM"],
    vocab_size: words.length,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
  }),
  device,
  1,
);
const optimizer = new AdamW(decayGroups(policy.parameters(), 0), { maxGradNorm: 1 });
const generator = new BatchGenerator({ device, models: { policy: { decoder: policy, cacheBytes: 2 ** 24 } }, maxRows: 128 });
const stop = compileStops({ stops: [], eosIds: [], tokenBytes: () => new Uint8Array(), vocabulary: words.length });

/** What each question hides: every jewel in every box. */
const hidden = ({ question }: TrajectoryKey) => ({ box: question % 4, jewel: jewels + Math.floor(question / 4) });

async function play(key: TrajectoryKey): Promise<Trajectory> {
  const { box, jewel } = hidden(key);
  const sequence = generator.open({ model: "policy", key, seed: 1, purpose: "policySample", prompt: [open, box] });
  try {
    const first = await sequence.generate({ stop, maxNewTokens: 1, sampling });
    sequence.append([first.ids[0] === box ? jewel : nothing]);
    const second = await sequence.generate({ stop, maxNewTokens: 1, sampling });
    const logProbs = [0, 0, ...first.logProbs, 0, ...second.logProbs];
    return { key, promptLength: 2, ids: [...sequence.ids], lossMask: [0, 0, 1, 0, 1], logProbs, sampling };
  } finally {
    sequence.close();
  }
}

/** Half for the right box, half for the right jewel. */
function reward({ key, ids }: Trajectory): number {
  const { box, jewel } = hidden(key);
  return (ids[2] === box ? 0.5 : 0) + (ids[4] === jewel ? 0.5 : 0);
}

const shown = ({ ids, lossMask }: Trajectory): string => ids.map((id, t) => (lossMask[t] === 1 ? `<${words[id]}>` : words[id])).join(" ");

for (let step = 1; step <= steps; step++) {
  const keys = Array.from({ length: questions * groupSize }, (_, i) => ({
    step,
    question: i % questions,
    rollout: Math.floor(i / questions),
  }));
  const trajectories = await Promise.all(keys.map(play));
  const scored = scoreTrajectories(trajectories, trajectories.map(reward), { estimator: "grpo", normalizeByStd: true });
  const settings = { microBatchTokens: 4096, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0.02 };
  const { logProbDifferenceMax } = await update(policy, optimizer, scored, settings, 3e-3);
  const mean = rolloutMetrics(scored)["reward/mean"] as number;
  console.log(
    `step ${step}: reward ${mean.toFixed(3)}, mismatch ${logProbDifferenceMax}, ${shown(trajectories[step % questions] as Trajectory)}`,
  );
}

await generator.dispose();
optimizer.dispose();
policy.dispose();
await device.destroy();

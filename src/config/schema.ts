/**
 * Every configuration key: its default, its range and what it means, in one place. Types, validation, `--help` and the saved
 * configuration all come from here. A key says what it counts. Defaults are the paper's (arXiv 2505.04588 and its released scripts)
 * where it has one; a file in `configs/` holds only what differs.
 */
import { z } from "zod";
import { endpointTurns } from "../agent/endpoint-policy.ts";
import { methods } from "../agent/methods/index.ts";
import { backends, deviceNames } from "../device/options.ts";
import { algorithmSettings, criticSettings } from "../rl/settings.ts";
import {
  choice,
  flag,
  model,
  nameOrFile,
  nameOrText,
  nullableNameOrFile,
  optionalModel,
  optionalPath,
  optionalPaths,
  optionalText,
  path,
  rare,
  real,
  section,
  templateVariables,
  whole,
} from "../util/fields.ts";
import {
  bm25Settings,
  denseSettings,
  endpointKeys,
  engineNames,
  httpSettings,
  mcpSettings,
  noiseForms,
  noiseUnits,
  simulatorSettings,
} from "../search/settings.ts";
import { collectSettings, judgeSettings } from "../simulator/settings.ts";
import { normalizers } from "../util/normalise-answer.ts";
import { compatSettings } from "./compat.ts";
import { rewardKind } from "./reward-sum.ts";

export const configSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/)
    .default("run")
    .describe("Name of the run: its logs go to <output.runs>/<name>, its states to <output.checkpoints>/<name>."),
  seed: whole(1, {}, "Seed of everything random: the order of questions, sampling, the curriculum's draws, the bootstrap."),

  output: section("Where a run writes.", {
    runs: path("Folder of the logs, one folder a run.").default("runs"),
    checkpoints: path("Folder of the saved states, one folder a run.").default("checkpoints"),
    spare: rare(
      optionalPath(
        "Folder for the last state of a run that has to end because output.checkpoints cannot be written (a full disk); null for none.",
      ),
    ),
    dtype: rare(
      choice(
        ["f32", "bf16", "f16"],
        "Type of the weights in the policy that a run leaves to be used; its saved states are f32, so that they go on exactly.",
      ),
    ),
  }),

  device: section("What computes.", {
    kind: choice(
      ["auto", ...deviceNames],
      "The device; auto takes a GPU if there is one, else the CPU, and says which; a software adapter is taken by webgpu only.",
    ),
    adapter: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe("Part of the name of the GPU to take, where there are several; null takes the first. zerosearch doctor lists them."),
    backend: rare(
      choice(
        ["auto", ...backends],
        "The way to the GPU, where the system has several (Vulkan beside Direct3D on Windows); zerosearch doctor names that of each adapter.",
      ),
    ),
    threads: whole(0, { max: 256 }, "CPU threads; 0 takes all. The results do not depend on it."),
    native: rare(
      choice(
        ["auto", "off"],
        "Machine code for the CPU's matrix products and attention, where processor and system allow it; off is WebAssembly alone. The results do not depend on it.",
      ),
    ),
    precision: choice(
      ["f32", "f16"],
      "Type that the operands of matrix products are rounded to; sums, the rest and the trained weights are f32. f16 needs a GPU, is faster there, and scales the loss so that small gradients survive.",
    ),
    tuning: rare(
      choice(
        ["auto", "off"],
        "Tiles of matrix products on the GPU: auto takes those that zerosearch doctor --tune measured on it, off those of a rule. The results do not depend on it.",
      ),
    ),
    readInterval: rare(
      whole(
        0,
        { max: 256 },
        "Decode steps between two reads of what was sampled; 0 takes the device's own: 1 on the CPU, more on a GPU. The results do not depend on it.",
      ),
    ),
    memoryGiB: rare(real(0, {}, "Memory of the GPU in GiB, which --dry-run measures against; 0 asks the system, where it tells.")),
    maxShardMiB: rare(
      whole(
        0,
        { max: 65536 },
        "Largest single allocation of a tensor in MiB, larger tensors are split by rows; 0 takes the device's own limit.",
      ),
    ),
  }),

  model: section(
    "The policy. A model is a Hugging Face folder (config.json, model.safetensors, tokenizer.json), or a Hub id such as Qwen/Qwen2.5-3B.",
    {
      policy: model("The policy to train."),
      referencePolicy: optionalModel(
        "The KL penalty's reference policy; null takes the policy as it starts. Read only if algorithm.klCoef > 0.",
      ),
      dtype: choice(
        ["f32", "f16", "bf16"],
        "Storage type of the weights that are only read: simulator, reference policy and, with LoRA, the policy's own. Weights that learn, their gradients and LoRA adapters are f32.",
      ),
      cacheDtype: rare(choice(["f32", "f16", "bf16"], "Storage type of the KV cache.")),
      chatTemplate: rare(
        optionalPath(
          "A chat template, a Jinja file, that the policy is asked through in place of its tokenizer's; with it a named set of prompts (rollout.prompt=quickstart) goes through the template too. null takes the tokenizer's.",
        ),
      ),
    },
  ),

  lora: section("Trains a LoRA adapter (arXiv 2106.09685) instead of all weights: y = W x + alpha/rank B A x.", {
    rank: whole(0, { max: 1024 }, "Rank of the adapter; 0 trains all weights."),
    alpha: z.number().gt(0).default(32).describe("The adapter's product is scaled by alpha / rank."),
    targets: rare(
      z
        .string()
        .min(1)
        .default("q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj")
        .describe("Linear layers of each block that get an adapter, by name, with commas between."),
    ),
    from: optionalModel("PEFT adapter that the policy starts from, a folder or a Hub id; rank, alpha and targets are then its own."),
  }),

  search: section("What answers the policy's queries in training.", {
    engine: nullableNameOrFile(
      engineNames,
      "simulated",
      "The search engine of training: a simulator (section simulator), a real one (its own section), or a module that exports one; null where a program gives its own to openTraining.",
    ),
    settings: rare(z.record(z.string(), z.json()).default({}).describe("Settings for a search engine that is a module of your own.")),
    record: rare(
      optionalText("File in which every search is kept with its documents, in training and in evaluation (docs/recordings.md)."),
    ),
    replay: rare(
      optionalText(
        "File of kept searches that are answered from it: no engine is asked. With search.record, and the same file, what is missing is asked and kept.",
      ),
    ),
    budget: rare(
      z
        .number()
        .min(0)
        .nullable()
        .default(null)
        .describe(
          "Money that searches by an engine with a price may take in a run, in the price's currency: it ends before it is exceeded.",
        ),
    ),
    onFailure: rare(
      choice(
        ["end", "void", "leave-out"],
        "What a search that fails for good does: it ends the run; the policy is told that there are no results, which is counted (search/failed); or its rollout is left out of its group and of the update, and counted (search/left_out), in evaluation as void.",
      ),
    ),
  }),

  cost: section("What things cost, for the table at the end of a run (docs/costs.md).", {
    currency: rare(z.string().min(1).default("USD").describe("Currency of the prices of this section.")),
    deviceHour: rare(real(0, {}, "Price of an hour of the device; 0 is not known.")),
    promptMillion: rare(real(0, {}, "Price of a million tokens that the simulator's endpoint reads.")),
    completionMillion: rare(real(0, {}, "Price of a million tokens that it writes.")),
    policyPromptMillion: rare(real(0, {}, "Price of a million tokens that the policy at collect.endpoint or evaluation.endpoint reads.")),
    policyCompletionMillion: rare(real(0, {}, "Price of a million tokens that it writes.")),
    judgePromptMillion: rare(real(0, {}, "Price of a million tokens that the judge at judge.endpoint reads.")),
    judgeCompletionMillion: rare(real(0, {}, "Price of a million tokens that it writes.")),
    collection: rare(
      optionalPath(
        "Of a training run: report.json of the zerosearch collect that its simulator learnt from, whose cost is told beside the run's own, with the number of runs in which it has paid for itself.",
      ),
    ),
    embeddingMillion: rare(real(0, {}, "Price of a million tokens that the endpoint of dense reads.")),
  }),

  simulator: simulatorSettings,

  bm25: bm25Settings,

  dense: denseSettings,

  http: httpSettings,

  mcp: mcpSettings,

  rollout: section("How the policy searches and answers, in training and in evaluation.", {
    method: nameOrFile(
      Object.keys(methods),
      "zerosearch",
      "How the policy answers in training: a method by name, or a module that exports one.",
    ),
    prompt: nameOrText(
      ["paper", "quickstart"],
      "What the policy is told: the paper's instruction and the question, the question alone as the quickstart's policy knows it, or a text of your own with {question} in it.",
    ),
    chatTemplateKwargs: templateVariables('Further variables of the policy\'s chat template, such as {"enable_thinking": false}.'),
    maxTurns: whole(5, { max: 256 }, "Searches a rollout may make; one last generation without search follows."),
    maxNewTokens: whole(500, { min: 1 }, "Tokens the policy may write in one turn."),
    maxObservationTokens: rare(
      whole(2048, { min: 1 }, "Tokens of one observation, tags included; longer documents are cut, the closing tag is kept."),
    ),
    maxContextTokens: whole(
      4096,
      { min: 16 },
      "Tokens of a whole rollout, prompt included; a rollout that runs out of them ends with status `length`.",
    ),
    cacheMiB: whole(
      512,
      {},
      "Most memory of one model's KV cache in MiB, unless a single sequence needs more; 0 takes what the device's memory leaves after all else, and no more than the rollouts can use. Rollouts that find no room wait: sets memory and speed, not the result.",
    ),
    temperature: z
      .number()
      .gt(0)
      .max(10)
      .default(1)
      .describe("Sampling temperature in training; log-probabilities are those at this temperature. Evaluation is greedy."),
    topK: rare(whole(0, {}, "Sample among the k likeliest tokens; 0 is off. Log-probabilities are over all tokens all the same.")),
    topP: rare(
      z.number().gt(0).max(1).default(1).describe("Sample among the likeliest tokens that hold this share of the probability; 1 is off."),
    ),
  }),

  train: section("The training loop; docs/batch-sizes.md explains how its sizes belong together.", {
    steps: whole(200, { min: 1 }, "Training steps, each one round of rollouts and its updates; also the length of the curriculum."),
    questionsPerStep: whole(64, { min: 1 }, "Different questions asked in a step (Q)."),
    groupSize: whole(5, { min: 1 }, "Rollouts of each question (G); advantages are taken inside this group."),
    updatesPerStep: whole(
      1,
      { min: 1 },
      "Optimiser updates in a step: its rollouts are split evenly into so many mini-batches, of whole groups where there are enough.",
    ),
    microBatchTokens: whole(16384, { min: 1 }, "Tokens in one forward and backward pass: sets memory and speed, not the result."),
    recompute: flag(false, "Compute each block's activations again in the backward pass: less memory, about a third more time."),
    saveEvery: whole(50, {}, "Steps between saved states; 0 saves at the end (and at Ctrl-C) only."),
    saveMinutes: rare(real(10, {}, "Minutes after which a step saves besides, so that little is lost where steps are long; 0 never.")),
    onCollapse: rare(
      choice(
        ["warn", "fail"],
        "What the end of a run is whose policy has died (no valid rollout, no reward, nothing to learn from): a warning, or exit code 1 besides.",
      ),
    ),
    keepCheckpoints: rare(whole(2, { min: 1 }, "Newest saved states kept besides the best one.")),
    validateEvery: whole(10, {}, "Steps between validations, which also choose the best state; 0 never validates."),
  }),

  sft: section(
    "Supervised fine-tuning, of `zerosearch sft` alone (docs/sft.md); model, lora, optimizer, seed and device are as in training.",
    {
      data: rare(optionalPaths("Examples: rows {messages} or {prompt, output}; a file, or a list of files, as those of data.")),
      validation: rare(optionalPaths("Examples that are held out: their mean loss is measured after each epoch.")),
      raw: rare(flag(false, "Takes prompts and outputs as they are written, without the model's chat template.")),
      epochs: rare(z.number().gt(0).max(1000).default(2).describe("Times each example is learnt from; the order is new each time.")),
      tokensPerUpdate: rare(
        whole(0, {}, "Tokens of one optimiser update, in whole examples; 0 takes a sixteenth of an epoch, from 512 to 16,384."),
      ),
      maxTokens: rare(whole(4096, { min: 2 }, "Tokens of an example; longer ones are left out, and counted.")),
      learningRate: rare(real(1e-5, {}, "Learning rate after warm-up; about ten times as much for a LoRA adapter.")),
      warmupSteps: rare(whole(10, {}, "Updates over which the learning rate rises from 0 in a straight line; at most a tenth of all.")),
      finalFraction: rare(real(0.1, { max: 1 }, "Share of the learning rate left at the end, after a half cosine.")),
    },
  ),

  collect: collectSettings,

  judge: judgeSettings,

  optimizer: section("AdamW with decoupled weight decay.", {
    moments: choice(
      ["f32", "bf16", "8bit"],
      "Storage type of the two moments: 8, 4 or about 2 bytes a weight; 8bit is blockwise (arXiv 2110.02861).",
    ),
    learningRate: real(1e-6, {}, "Learning rate after warm-up."),
    schedule: choice(
      ["constant", "cosine"],
      "The learning rate after warm-up: constant, or falling in a half cosine to finalFraction of itself.",
    ),
    finalFraction: rare(real(0, { max: 1 }, "Share of the learning rate left at the last update, with the cosine schedule.")),
    warmupSteps: whole(10, {}, "Optimiser updates over which the learning rate rises from 0 in a straight line."),
    warmupShare: rare(
      z
        .number()
        .min(0)
        .max(1)
        .nullable()
        .default(null)
        .describe("Share of all updates of the run over which it rises, in place of warmupSteps; null takes warmupSteps."),
    ),
    beta1: rare(real(0.9, { max: 0.999999 }, "Decay of the mean of gradients.")),
    beta2: rare(real(0.999, { max: 0.999999 }, "Decay of the mean of squared gradients.")),
    eps: rare(z.number().gt(0).max(1).default(1e-8).describe("Added to the root of the second moment.")),
    weightDecay: rare(real(0.01, { max: 1 }, "Decoupled weight decay of the matrices; norms and biases have none.")),
    maxGradNorm: real(1, {}, "Gradients are scaled down to this norm; 0 never."),
  }),

  algorithm: algorithmSettings,

  critic: criticSettings,

  guard: section(
    "Watches a run for collapse, by what comes before the reward falls. docs/collapse.md says what is watched, and how to read it.",
    {
      action: choice(
        ["warn", "stop", "rollback", "off"],
        "At a sign of collapse: warn; end the run with exit code 1; go back to the last good state with half the learning rate (three times at most, then end); or do not watch.",
      ),
    },
  ),

  curriculum: section("The share of searches answered with noise: start + (base^(i/m) - 1)/(base - 1) (end - start) at step i of m.", {
    start: real(0, { max: 1 }, "Probability of noise at the start."),
    end: real(0.5, { max: 1 }, "Probability of noise at the end."),
    base: rare(z.number().gt(0).max(1e6).default(4).describe("How late the noise comes: larger is later; 1 is a straight line.")),
    form: rare(
      choice(
        [...noiseForms, "adaptive"],
        "How noise goes over a run. rising: as above; to compare with, constant, at start; random, a new draw between start and end for each step; reversed, from end to start; adaptive, from start to end and back so that the mean reward stays between rewardLow and rewardHigh.",
      ),
    ),
    rewardLow: rare(real(0.4, { max: 1 }, "Of the form adaptive: below this mean reward of a step noise becomes less.")),
    rewardHigh: rare(real(0.6, { max: 1 }, "Of the form adaptive: above this mean reward of a step noise becomes more.")),
    change: rare(z.number().gt(0).max(1).default(0.02).describe("Of the form adaptive: by how much a step.")),
    unit: rare(
      choice(noiseUnits, "What is drawn to be useful or noisy: a whole set of documents, as in the paper, or each document by itself."),
    ),
  }),

  reward: section("What a rollout is paid.", {
    kind: rewardKind(
      "f1",
      "Score of the policy's answer against the right ones: token F1, exact match, or containing one (easy to cheat by long answers); 1 for keeping to the format, or for finding a right answer; Search-R1's score of answer and format; a weighted sum of these, such as f1 + 0.2*format (docs/scores.md); or a module that exports a reward.",
    ),
    timeoutSeconds: rare(
      real(
        60,
        { max: 86400 },
        "Seconds that a reward of your own may take for a rollout; 0 is no limit. A rollout whose reward throws, is no number or comes too late is left out of its group and of the update, and counted (reward/failed).",
      ),
    ),
    normalizer: rare(
      choice(
        normalizers,
        "What answers are compared in, by every score: SQuAD's normal form as in the paper, which knows ASCII only; or one that also knows punctuation, quotes and scripts of other languages, and keeps minus signs (docs/scores.md).",
      ),
    ),
  }),

  compat: compatSettings,

  data: section(
    "Question files: rows {question, golden_answers, id, data_source}; corpus: rows {id, text}. JSON Lines, a JSON list or parquet, also gz or zst; a path, or hf://datasets/OWNER/NAME/FILE. See docs/data.md.",
    {
      train: optionalPaths("Questions to train on: a file, or a list of files."),
      validation: optionalPaths("Questions that choose the best state, neither trained on nor tested on."),
      test: optionalPaths("Questions of the evaluation before and after training; null leaves it out."),
      corpus: optionalPath("Passages that the real search engine of validation and evaluation searches."),
      allowSameFile: rare(flag(false, "Whether one file may be in two of train, validation and test.")),
    },
  ),

  evaluation: section("Validation and the evaluation before and after training: greedy, with a real search engine.", {
    engine: nameOrFile(engineNames, "bm25", "The search engine that judges: by name, or a module that exports one."),
    questions: whole(0, {}, "Questions of the evaluation, the first ones of data.test; 0 takes all."),
    validationQuestions: rare(whole(0, {}, "Questions of a validation, the first ones of data.validation; 0 takes all.")),
    robustness: rare(flag(true, "Also measure whether the policy searches again after useless documents, on simulated searches.")),
    baselines: rare(flag(true, "Evaluate direct answers and one-search RAG with the same models as well.")),
    ...endpointKeys("the policy that is judged, in place of model.policy"),
    endpointTurns: rare(
      choice(
        endpointTurns,
        "How a rollout is put to that server: each turn a message, what the policy is told one of the user; continued, in one turn of the assistant, as in training (vLLM, SGLang); or as one text by /completions, for base models.",
      ),
    ),
    opensThought: rare(flag(false, "The server's chat template opens a thought itself, as those of DeepSeek-R1 and QwQ do.")),
    setsFolder: rare(
      optionalPath("Folder of question sets that `zerosearch evaluate --sets` names: nq/test.jsonl or nq_test.jsonl (docs/evaluation.md)."),
    ),
    hotpotYesNo: rare(
      flag(false, "Scores HotpotQA as its own script does: where one of answer and golden answer is yes or no and they differ, F1 is 0."),
    ),
    bootstrapSamples: rare(whole(2000, { min: 100, max: 100000 }, "Resamples of the 95 % intervals.")),
  }),
});

/** A resolved configuration: every key has a value. */
export type Config = z.infer<typeof configSchema>;

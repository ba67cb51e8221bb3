/**
 * The public API. A training run is `openTraining` and `trainStep`; the parts it is made of are exported too: devices, tensors, ops,
 * the decoder, generation, search engines, the agent and the RL formulas.
 */
export { packagedConfig, resolveConfig, type Config } from "./config/index.ts";
export { openTraining, Training, trainStep, type OpenTrainingOptions, type StepOptions, type StepReport } from "./train.ts";
export type { Run, StepParts, StepResult } from "./run/run.ts";
export type { Journal, Recorded, Validation } from "./run/journal.ts";
export type { Saved, States } from "./run/states.ts";
export type { Reward } from "./run/reward.ts";
export { openModel, openTokenizer, type Model } from "./setup/open-model.ts";
export { openPolicy, type OpenedPolicy, type OpenPolicyOptions } from "./setup/open-policy.ts";
export { cpuRateKey, gpuRateKey, saveRates, type Rates } from "./plan/rates.ts";

export { createDevice, type DeviceOptions } from "./device/create.ts";
export type { Device, Dtype, MemoryReport, Storage } from "./device/device.ts";
export { empty, fromHost, full, Parameter, Tensor } from "./tensor/tensor.ts";
export { backward } from "./tensor/backward.ts";
export { keep, Scope, withScope } from "./tensor/scope.ts";
export { withTape, withoutTape } from "./tensor/tape.ts";
export { matmul } from "./ops/matmul.ts";
export { gatherRows } from "./ops/gather-rows.ts";
export { logProb } from "./ops/log-prob.ts";
export { crossEntropy } from "./ops/cross-entropy.ts";
export { policyLoss, policyLossStats, type PolicyLossInputs, type PolicyLossOptions } from "./ops/policy-loss.ts";
export { packBatch } from "./nn/batch.ts";
export { Decoder, type DecoderOptions } from "./nn/decoder.ts";
export { fromHuggingFace, type DecoderConfig } from "./nn/config.ts";
export { KvCache } from "./nn/kv-cache.ts";
export { AdamW, decayGroups } from "./optim/adamw.ts";
export { LossScaler, lossScalerFor } from "./optim/loss-scaler.ts";
export { learningRate } from "./optim/schedule.ts";
export { loadDecoder, saveModelFolder } from "./checkpoint/hugging-face.ts";
export { loadAdapter, saveAdapter } from "./checkpoint/peft.ts";
export { readAdapterConfig } from "./checkpoint/peft-config.ts";
export { exportModel } from "./checkpoint/merge.ts";
export { locateModel } from "./hub/find-model.ts";
export { fineTuneStep, type Example } from "./sft/fine-tune.ts";

export { Tokenizer } from "./text/tokenizer.ts";
export { ChatTemplate } from "./text/chat-template.ts";
export { foreign, ours, type Prompt, type PromptPart } from "./text/prompt.ts";
export { compileStops } from "./generate/stop-automaton.ts";
export { BatchGenerator } from "./generate/scheduler.ts";
export type { Generated, GenerateRequest, Generator, SamplingSettings, Sequence, StopTable, TrajectoryKey } from "./generate/types.ts";

export type { SearchEngine, SearchRequest, SearchResult } from "./search/search-engine.ts";
export { keepDocuments, SimulatedSearch, simulatorStop } from "./search/simulated.ts";
export { EndpointSearch } from "./search/endpoint.ts";
export { ChatClient, type ChatCounts } from "./search/chat-client.ts";
export { promptedSimulatorTemplate, simulatorTemplate, tunedSimulatorTemplate } from "./search/simulator-prompt.ts";
export { Bm25Search } from "./search/bm25.ts";
export { noiseProbability, type NoiseSchedule } from "./search/curriculum.ts";
export { compileStopsOnce, compileTextStops } from "./generate/text-stops.ts";

export { neutralise, templatePrompt, type Action, type Dialect, type PromptValues } from "./agent/dialects/dialect.ts";
export { observation, parseAction } from "./agent/dialects/zerosearch.ts";
export { promptIds, promptOf, type PromptSettings } from "./agent/prompts.ts";
export { answerOnce, askEngine, observationIds, rollout } from "./agent/rollout.ts";
export { rolloutAll, groupTasks, evaluationTasks, type RolloutAllOptions, type RolloutTask } from "./agent/rollout-all.ts";
export { methods } from "./agent/methods/index.ts";
export type { AgentContext, AgentSettings, Method, MethodContext } from "./agent/methods/method.ts";
export { evaluate, summarise, type EvaluateOptions, type EvaluationSummary, type JudgedTrajectory } from "./evaluation/evaluate.ts";
export { judge, type JudgedRow, type JudgeOptions } from "./evaluation/judge.ts";
export { evaluationJson, evaluationText, type Evaluation, type EvaluationRow } from "./evaluation/report.ts";

export { reward, rewardNames, scoreAnswer, type RewardName, type Scores } from "./rl/reward.ts";
export { advantageNames, groupAdvantages, scoreTrajectories, type AdvantageName, type AdvantageSettings } from "./rl/advantage.ts";
export { constantLength, sequenceMeanTokenMean, sequenceMeanTokenSum, tokenMean } from "./rl/loss-weights.ts";
export type { LossWeights, TokenWeights } from "./rl/loss-weights.ts";
export { hasGradient, lossTokens, microBatches, splitUpdates } from "./rl/mini-batches.ts";
export { rolloutMetrics, searchMetrics, updateMetrics, type Metrics } from "./rl/metrics.ts";
export type { TokenLogProbs } from "./rl/packing.ts";
export { tokenLogProbs, update, type ForwardSettings, type UpdateOptimizer, type UpdateSettings } from "./rl/update.ts";
export type { UpdateStats } from "./rl/update-stats.ts";
export type { DocumentKind, Question, Scored, SearchRecord, SearchTrajectory, Trajectory, TrajectoryStatus } from "./rl/trajectory.ts";
export { loadQuestions } from "./data/questions.ts";
export { ZeroSearchError } from "./util/errors.ts";

/// <reference types="node" preserve="true" />
/**
 * The public API: `docs/api.md` lists it. A training run is `openTraining` and `trainStep`; the parts it is made of are exported too, with
 * the types that they name.
 */

// Training
export { openTraining, trainStep } from "./train.ts";
export type { OpenTrainingOptions, StepOptions, StepReport, Training } from "./train.ts";
export type { OpenRunOptions } from "./run/open-run.ts";
export type { Run, StepCosts, StepParts, StepResult, StepRun } from "./run/run.ts";
export type { Critic, Learner, LearnerParts } from "./setup/open-learner.ts";
export { DivergedError, type Divergence } from "./run/diverged.ts";
export type { Journal, JournalOptions, Recorded, Rollback, RunHistory, Validation } from "./run/journal.ts";
export type { GuardMemory, Watched } from "./run/guard.ts";
export type { ValidationPoint } from "./run/parting-note.ts";
export type { Saved, States } from "./run/states.ts";
export type { Reward } from "./run/reward.ts";
export type { InputHashes } from "./run/inputs.ts";
export type { RunData } from "./run/run-data.ts";
export type { PhaseClock } from "./log/phase-clock.ts";
export type { Engines } from "./setup/open-engines.ts";

// Configuration and data
export { packagedConfig, readOverride, readYaml, resolveConfig } from "./config/index.ts";
export type { Config, Purpose as ConfigPurpose, Source as ConfigSource, Tree as ConfigTree } from "./config/index.ts";
export { loadQuestions, type LoadQuestionsOptions } from "./data/questions.ts";
export type { QuestionSampler, SampledQuestion } from "./data/question-sampler.ts";

// RL
export type {
  DocumentKind,
  Question,
  Scored,
  Aside,
  PageRecord,
  SearchRecord,
  SearchTrajectory,
  Trajectory,
  TrajectoryStatus,
  Unpaid,
} from "./rl/trajectory.ts";
export { reward, rewardNames, scoreAnswer, usualRules, type RewardName, type ScoreRules, type Scores } from "./rl/reward.ts";
export { keptFormat, retrieved, rewardTerm, searchR1Format, searchR1Scores, termNames } from "./rl/reward-terms.ts";
export type { SearchR1Scores, TermName } from "./rl/reward-terms.ts";
export type { Normalizer } from "./util/normalise-answer.ts";
export {
  advantageNames,
  groupAdvantages,
  scoreTrajectories,
  type AdvantageName,
  type AdvantageSettings,
  type TokenRewards,
} from "./rl/advantage.ts";
export { generalizedAdvantages, whiten, type Estimates, type GaeSettings, type ValuedTokens } from "./rl/gae.ts";
export { constantLength, sequenceMeanTokenMean, sequenceMeanTokenSum, tokenMean } from "./rl/loss-weights.ts";
export type { LossWeights, TokenWeights } from "./rl/loss-weights.ts";
export { hasGradient, lossTokens, microBatches, splitUpdates } from "./rl/mini-batches.ts";
export type { DocumentRule, LossName } from "./rl/settings.ts";
export { tokenLogProbs, update, type SharedCritic, type UpdateOptimizer, type UpdateSettings } from "./rl/update.ts";
export { tokenValues, updateCritic, type CriticModel, type CriticStats, type CriticUpdateSettings } from "./rl/critic.ts";
export { explainCriticUpdate, explainUpdate, type ExplainOptions } from "./rl/explain-update.ts";
export type { MicroBatchLoss, RefusalCause, RefusedUpdate, RolloutFault, Some, TokenFault } from "./rl/refused-update.ts";
export type { TokenNumber, TokenNumbers } from "./rl/refusal-cause.ts";
export type { TensorFault, TensorNorm } from "./rl/tensor-faults.ts";
export type { TokenValues, ValueMeans, ValueTargets } from "./rl/value-targets.ts";
export type { ForwardSettings } from "./rl/forward.ts";
export type { KlWeight } from "./rl/kl.ts";
export type { UpdateStats } from "./rl/update-stats.ts";
export type { TokenLogProbs } from "./rl/packing.ts";
export { rolloutMetrics, searchMetrics, updateMetrics, type Metrics } from "./rl/metrics.ts";

// The agent
export { methods } from "./agent/methods/index.ts";
export type { AgentContext, AgentSettings, Method, MethodContext } from "./agent/methods/method.ts";
export { neutralise, templatePrompt, type Action, type Call, type Dialect, type PromptValues } from "./agent/dialects/dialect.ts";
export { observation, parseAction } from "./agent/dialects/zerosearch.ts";
export { askEngine, type SearchContext } from "./agent/ask-engine.ts";
export { observationIds } from "./agent/observation.ts";
export { answerOnce, converse, rollout, type ConverseOptions, type OpenTurn, type Reply, type RolloutSoFar } from "./agent/rollout.ts";
export { evaluationTasks, groupTasks, rolloutAll, type RolloutAllOptions, type RolloutTask } from "./agent/rollout-all.ts";
export { promptIds, promptOf, type PromptSettings } from "./agent/prompts.ts";
export type { ToolChat } from "./text/tool-chat.ts";

// Search
export { ask } from "./search/search-engine.ts";
export type {
  Engine,
  SearchDocument,
  SearchEngine,
  PageRequest,
  SearchRequest,
  SearchResult,
  Simulator,
  SimulatorRequest,
} from "./search/search-engine.ts";
export { engines } from "./search/engines.ts";
export type {
  EmbeddingModel,
  EmbeddingParts,
  EngineContext,
  EngineKind,
  EngineProgress,
  IdentityContext,
  LocalModel,
} from "./search/engine-kind.ts";
export type { OpenedEngine, Simulate } from "./search/engine-kind.ts";
export { Recording, type EngineIdentity, type RecordingCounts, type RecordingOptions } from "./search/recording.ts";
export { Budget, type Price } from "./search/prices.ts";
export { parseDocuments, renderDocuments } from "./search/documents.ts";
export { Bm25Search, type Bm25Hit } from "./search/bm25.ts";
export { DenseSearch, type DenseHit } from "./search/dense.ts";
export type { DenseAbout } from "./search/dense/format.ts";
export { buildIndex, type BuildOptions, type BuildProgress, type BuiltIndex } from "./search/bm25/build.ts";
export type { IndexAbout } from "./search/bm25/format.ts";
export type { Passage } from "./search/passages.ts";
export { FirstSearch } from "./search/first-search.ts";
export { keepDocuments, SimulatedSearch, simulatorStop, type SimulatedSearchOptions } from "./search/simulated.ts";
export type { Simulation } from "./search/simulation.ts";
export type { SimulationOptions } from "./search/simulation.ts";
export {
  promptedSimulatorTemplate,
  simulatorTemplate,
  tunedSimulatorTemplate,
  untoldSimulatorTemplate,
  type SimulatorTemplate,
} from "./search/simulator-prompt.ts";
export { AdaptiveNoise, noiseProbability, type AdaptiveNoiseBounds, type Noise, type NoiseSchedule } from "./search/curriculum.ts";
export type { NoiseForm, NoiseUnit } from "./search/settings.ts";

// Evaluation
export { openPolicy, type OpenedPolicy, type OpenPolicyOptions } from "./setup/open-policy.ts";
export { judge, type JudgedRow, type JudgeOptions } from "./evaluation/judge.ts";
export { evaluate, summarise, type EvaluateOptions, type EvaluationSummary, type JudgedTrajectory } from "./evaluation/evaluate.ts";
export { evaluationJson, evaluationText } from "./evaluation/report.ts";
export type { Evaluation, EvaluationRow, HopsRow, When } from "./evaluation/report.ts";
export type { RobustnessSummary } from "./evaluation/robustness.ts";

// Models and their files
export { openModel, openTokenizer, type Model, type ModelText, type OpenModelOptions } from "./setup/open-model.ts";
export type { Models } from "./setup/open-models.ts";
export { locateDataFile, type LocateFileOptions } from "./hub/find-data-file.ts";
export { locateModel, type DownloadProgress, type LocateOptions, type ModelKind } from "./hub/find-model.ts";
export { loadDecoder, type LoadOptions } from "./checkpoint/load-model.ts";
export { saveModelFolder, type SaveModelOptions } from "./checkpoint/save-model.ts";
export { type FloatDtype } from "./checkpoint/save-tensors.ts";
export { loadAdapter, saveAdapter, type SaveAdapterOptions } from "./checkpoint/peft.ts";
export { readAdapterConfig, type AdapterConfig, type ModuleChoice } from "./checkpoint/peft-config.ts";
export { exportModel, type Exported, type ExportOptions } from "./checkpoint/merge.ts";

// Text
export { Tokenizer } from "./text/tokenizer.ts";
export type { DecodeOptions, EncodeOptions, SpecialTokenJson, TokenizerConfigJson, TokenizerJson } from "./text/tokenizer.ts";
export type { AddedTokenJson, Step as TokenizerStep } from "./text/token-bytes.ts";
export { ChatTemplate, type ChatMessage, type PromptMessage, type TemplateVariables } from "./text/chat-template.ts";
export { foreign, ours, type Prompt, type PromptEncoding, type PromptPart, type TextCodec } from "./text/prompt.ts";
export { compileStopsOnce, compileTextStops, type StoppingCodec } from "./generate/stop-automaton.ts";

// The engine
export { createDevice } from "./device/create.ts";
export type { DawnOptions, DeviceName, DeviceOptions } from "./device/options.ts";
export type { CpuDeviceOptions, KernelLoader, SimdBuild } from "./device/cpu/options.ts";
export * from "./engine.ts";

/** The room's door: what programs need of the configuration. */
export { argumentsHelp, parseArguments, type Arguments, type ArgumentSpec } from "./arguments.ts";
export { nearest } from "../util/nearest.ts";
export { changedKeys, keysHelp, printConfig, type ChangedKey } from "./print.ts";
export { checkEngines, enginesUsed, type Purpose } from "./check-together.ts";
export { packageFolder } from "./package-folder.ts";
export { pathHere, portable } from "./portable.ts";
export { resolveConfig } from "./resolve.ts";
export { parseReward, rewardText } from "./reward-sum.ts";
export { claimRunName, isCalled, newestRunName, noSuchRun, runConfigFile } from "./run-name.ts";
export { type Config } from "./schema.ts";
export { readOverride, readYaml, savedSource, type Source } from "./source.ts";
export { isTree, type Tree } from "./tree.ts";
export { packagedConfig, readTrainCommand, trainCommand, type TrainCommand } from "./train-command.ts";

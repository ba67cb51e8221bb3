/** The room's door: what programs need of the configuration. */
export { argumentsHelp, parseArguments, type Arguments, type ArgumentSpec } from "./arguments.ts";
export { nearest } from "./nearest.ts";
export { changedKeys, hashConfig, printConfig, type ChangedKey } from "./print.ts";
export { packageFolder, resolveConfig } from "./resolve.ts";
export { claimRunName, newestRunName, runConfigFile } from "./run-name.ts";
export { type Config } from "./schema.ts";
export { readOverride, readYaml } from "./source.ts";
export { packagedConfig, readTrainCommand, type TrainCommand } from "./train-command.ts";

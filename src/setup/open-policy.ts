/** Opens a policy: device, weights, tokenizer, adapter, and the generator that it answers on. A run opens its own here too. */
import type { AgentContext } from "../agent/methods/method.ts";
import type { Config } from "../config/index.ts";
import { targetOf } from "../device/choose.ts";
import type { Device } from "../device/device.ts";
import type { BatchGenerator } from "../generate/scheduler.ts";
import type { TextStream } from "../log/progress.ts";
import type { Engine } from "../search/search-engine.ts";
import { cachedModels, cacheUnknown, cacheWithin } from "./cache-size.ts";
import { Closing } from "./closing.ts";
import { foreignBases } from "./adapter-base.ts";
import { locateConfigModels, showOn } from "./locate-models.ts";
import { copiesOf, type WeightsPlan } from "./model-roles.ts";
import { evaluationContext, openGenerator, trainingContext } from "./open-agents.ts";
import { openDevice } from "./open-device.ts";
import type { ModelReader } from "./open-model.ts";
import { openCopies, type Models } from "./open-models.ts";

export interface OpenPolicyOptions {
  /** True where it is to learn: the reference policy is opened too, if the loss asks for one. */
  readonly trains?: boolean;
  /** The longest sequence of the configuration's simulator, which is opened on the same generator if it is a model; null: it is not. */
  readonly simulatorPositions?: number | null;
  /** Whether the model of dense is opened: false unless told. */
  readonly embeds?: boolean;
  /** Told what is about to be loaded, with folders in place of Hub ids: to refuse it. */
  readonly check?: (config: Config, device: Device) => Promise<void>;
  /** Told it after that: returns it with the size of the caches, where that is left to the memory. */
  readonly size?: (config: Config, device: Device) => Promise<Config>;
  /** @internal Where it is said which device and models are taken: stdout unless given. */
  readonly stream?: TextStream;
  /** @internal Where what is opened is to be closed, in place of `close`. */
  readonly closing?: Closing;
}

export interface OpenedPolicy extends Models {
  /** The configuration with every Hub id at the commit that is used. */
  readonly pinned: Config;
  /** The configuration with folders in place of Hub ids. */
  readonly opened: Config;
  readonly device: Device;
  readonly generator: BatchGenerator;
  /** What rollouts that are judged share: greedy, with `engine`. */
  judging(engine: Engine): AgentContext;
  /** Gives everything back. */
  close(): Promise<void>;
}

/**
 * Opens the policy of a configuration and nothing else: neither questions nor a simulator are looked at.
 * @throws ConfigError, FileError, DeviceError: whatever is wrong with what the configuration names.
 */
export async function openPolicy(config: Config, options: OpenPolicyOptions = {}): Promise<OpenedPolicy> {
  const {
    trains = false,
    simulatorPositions = null,
    embeds = false,
    check,
    size,
    stream = process.stdout,
    closing = new Closing(),
  } = options;
  try {
    const { located, opened, pinned } = await locateConfigModels(
      config,
      { trains, simulates: simulatorPositions !== null, embeds },
      showOn(stream),
    );
    const device = closing.add<Device>(await openDevice(config.device, (line) => stream.write(`${line}\n`)), (one) => one.destroy());
    await check?.(opened, device);
    const sized = (await size?.(opened, device)) ?? opened;
    const copies = copiesOf(opened, located, { simulatorPositions: simulatorPositions ?? 0, trains });
    for (const line of await foreignBases(copies)) stream.write(`warning: ${line}\n`);
    const models = await openOn(device, sized, copies, closing);
    const judging = (engine: Engine): AgentContext =>
      evaluationContext(config, trainingContext(config, models.generator, models.policy, engine), engine);
    return { ...models, pinned, opened, device, judging, close: () => closing.close() };
  } catch (error) {
    await closing.close();
    throw error;
  }
}

/** Opens the models of a run on a device, and the generator over them. @throws as `openCopies` */
export async function openOn(
  device: Device,
  config: Config,
  copies: readonly WeightsPlan[],
  closing: Closing,
  reader?: ModelReader,
): Promise<Models & Pick<OpenedPolicy, "generator">> {
  const models = await openCopies(config, copies, device, closing, reader);
  const { policy, simulator } = models;
  const sized = config.rollout.cacheMiB === 0 ? await cacheBeside(device, config, models) : config;
  return { ...models, generator: closing.add(openGenerator(sized, device, policy, simulator), (one) => one.dispose()) };
}

/** Caches for a program that nobody has planned, as it does not train: half of what its models leave of the memory. */
async function cacheBeside(device: Device, config: Config, { policy, simulator }: Models): Promise<Config> {
  const { memory, kept } = await targetOf(device, config.device);
  const cached = cachedModels(config, policy, simulator);
  if (memory === null) return cacheUnknown(config);
  return cacheWithin(config, cached, Math.max(0, memory.bytes - kept - device.memory().inUse) / 2);
}

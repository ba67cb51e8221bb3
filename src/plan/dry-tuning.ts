/** `zerosearch sft --dry-run`: plans a fine-tuning and says whether it fits. */
import type { Config } from "../config/index.ts";
import { findTarget } from "../device/choose.ts";
import type { Target } from "../device/kind.ts";
import { tuningConfig } from "../run/tuning-config.ts";
import type { DryRun } from "./dry-run.ts";
import { planTuning } from "./plan.ts";
import { tuningText } from "./print.ts";
import { changesForTuning, findRemedies } from "./settings.ts";

/** @throws FileError, ConfigError where a configuration is missing or wrong. */
export async function dryTuning(asked: Config, onto?: Target): Promise<DryRun> {
  const target = onto ?? (await findTarget(asked.device));
  const config = tuningConfig(asked);
  const plan = await planTuning(config, target);
  const again = (one: Config): ReturnType<typeof planTuning> => planTuning(one, target);
  const other = await again({ ...config, train: { ...config.train, recompute: !config.train.recompute } });
  const remedies = plan.fits === false ? await findRemedies(plan, again, changesForTuning(config)) : null;
  return { plan, text: tuningText({ plan, target, other, remedies }) };
}

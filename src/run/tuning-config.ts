/** What `zerosearch sft` takes of a configuration. */
import type { Config } from "../config/index.ts";

/** Sequences as long as an example may be, and no reference policy, critic or simulator: that is all of a run's roles that learns here. */
export function tuningConfig(config: Config): Config {
  const { rollout, algorithm, model, simulator, sft } = config;
  return {
    ...config,
    rollout: { ...rollout, maxContextTokens: sft.maxTokens },
    algorithm: { ...algorithm, klCoef: 0, advantage: "grpo" },
    model: { ...model, referencePolicy: null },
    simulator: { ...simulator, path: null, adapter: null },
  };
}

/** What a run computes with, in words for its second line. */
import type { Parameter } from "../tensor/tensor.ts";
import type { Critic } from "../setup/open-learner.ts";
import type { Model } from "../setup/open-model.ts";

/** `policy 0.94 M parameters, simulator 0.94 M`; of LoRA, what learns and what is shared. `endpoint` is where a simulator outside runs, if there is one. */
export function describeModels(
  policy: Model,
  simulator: Model | null,
  endpoint: string | readonly string[] | null,
  critic: Critic | null = null,
): string {
  const simulated =
    simulator !== null
      ? describeSimulator(simulator, policy)
      : endpoint === null
        ? null
        : `behind ${typeof endpoint === "string" ? endpoint : endpoint.join(", ")}`;
  const valued = critic === null ? "" : `, critic ${describeCritic(critic, policy)}`;
  return `policy ${describePolicy(policy)}${simulated === null ? "" : `, simulator ${simulated}`}${valued}`;
}

function describeCritic({ decoder, adapter, own }: Critic, policy: Model): string {
  if (own === null) return "on the policy's weights";
  if (adapter === undefined) return millions(decoder.parameters());
  const weights = decoder === policy.decoder ? "on the same weights" : millions(decoder.parameters());
  return `${weights} with its own adapter of ${millions(decoder.adapterParameters(adapter))}`;
}

/** How prompts are put and what ends a rollout besides its tags: a tokenizer without its configuration beside it shows here. */
export function describePrompts({ tokenizer, chatTemplate }: Pick<Model, "tokenizer" | "chatTemplate">, own: string | null = null): string {
  const ends = tokenizer.eosIds.map((id) => tokenizer.specialText(id) ?? String(id));
  const template = own === null ? "the model's chat template" : `the chat template ${own}`;
  const how = chatTemplate === null ? "raw text, as the model has no chat template" : template;
  return `prompts: ${how}; ends at ${ends.length === 0 ? "no token: the model names none" : ends.join(", ")}`;
}

function describePolicy({ decoder, adapter }: Model): string {
  const size = `${millions(decoder.parameters())} parameters`;
  return adapter === undefined ? size : `${size} and a LoRA adapter of ${millions(decoder.adapterParameters(adapter))} that learns`;
}

function describeSimulator({ decoder, adapter }: Model, policy: Model): string {
  const weights = decoder === policy.decoder ? "on the same weights" : millions(decoder.parameters());
  return adapter === undefined ? weights : `${weights} with its own adapter`;
}

function millions(parameters: ReadonlyMap<string, Parameter>): string {
  const count = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
  return `${(count / 1e6).toFixed(2)} M`;
}

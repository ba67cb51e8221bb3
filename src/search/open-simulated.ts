/** Opens the simulator: a model in this process, or one behind an endpoint, which is asked whether it is there. */
import { compileTextStops } from "../generate/stop-automaton.ts";
import type { Prompt } from "../text/prompt.ts";
import { ConfigError } from "../util/errors.ts";
import type { ChatClient } from "./chat-client.ts";
import { EndpointSearch } from "./endpoint.ts";
import type { EngineContext, LocalModel, OpenedEngine, Simulate } from "./engine-kind.ts";
import { openChat } from "./open-chat.ts";
import type { SimulatorSettings } from "./settings.ts";
import { SimulatedSearch } from "./simulated.ts";
import { simulatorMessages, simulatorStop, type SimulationOptions } from "./simulation.ts";
import { simulatorTemplateOf } from "./simulator-prompt.ts";

/**
 * @throws ConfigError for a wrong URL, model or variable, and where there is neither endpoint nor model; ServerError when the endpoint
 *   cannot be reached or refuses.
 */
export async function openSimulated(settings: SimulatorSettings, context: EngineContext): Promise<OpenedEngine> {
  const { prompt, documents, maxNewTokens, temperature, topK, topP, redraws, endpoint, chatTemplateKwargs, opensThought } = settings;
  const template = simulatorTemplateOf(prompt, context.promptSet);
  const thoughts = new UnfinishedThoughts(context.say);
  const onUnfinishedThought = (): void => thoughts.add();
  let redrawn = 0;
  const shared = {
    ...{ seed: context.seed, unit: context.unit, rules: context.rules },
    ...{ documents, template, maxNewTokens, redraws, sampling: { temperature, topK, topP } },
    onUnfinishedThought,
    onRedraw: () => {
      redrawn++;
    },
  };
  const takeRedraws = (): Readonly<Record<string, number>> => {
    const count = redrawn;
    redrawn = 0;
    return redraws === 0 ? {} : { simulator_redraws: count };
  };
  if (endpoint !== null) {
    const client = await openChat("simulator", { ...settings, endpoint }, context);
    const simulate: Simulate = (noise = context.noise) =>
      new EndpointSearch({ ...shared, client, noise, templateVariables: chatTemplateKwargs, opensThought });
    const takeCounts = () => ({ ...countsOf(client, typeof endpoint !== "string"), ...thoughts.take(), ...takeRedraws() });
    return { engine: simulate(), simulate, takeCounts };
  }
  if (context.local === undefined)
    throw new ConfigError({
      where: "simulator.path",
      what: "is missing",
      expected: "one of them: a model in this process, or a server (simulator.endpoint)",
      got: "null",
    });
  const simulate = simulateHere(shared, settings, context.local, context.noise);
  return { engine: simulate(), simulate, takeCounts: () => ({ ...thoughts.take(), ...takeRedraws() }) };
}

/** Texts of the simulator that are all thought. The 1st, 2nd, 4th, 8th ... are told. */
class UnfinishedThoughts {
  readonly #say: (text: string) => void;
  #all = 0;
  #taken = 0;

  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  add(): void {
    const count = ++this.#all;
    if ((count & (count - 1)) !== 0) return;
    this.#say(
      `simulator: ${count === 1 ? "a text is" : `${count} texts are`} all thought, without documents; ` +
        'simulator.chatTemplateKwargs={"enable_thinking": false} where the model knows it, or a larger simulator.maxNewTokens',
    );
  }

  /** Since the last call. */
  take(): Readonly<Record<string, number>> {
    const count = this.#all - this.#taken;
    this.#taken = this.#all;
    return { simulator_unfinished_thoughts: count };
  }
}

function simulateHere(
  shared: Omit<SimulationOptions, "noise">,
  { prompt, chatTemplateKwargs }: Pick<SimulatorSettings, "prompt" | "chatTemplateKwargs">,
  { generator, model, adapter, tokenizer, chatTemplate, vocabulary }: LocalModel,
  risingNoise: EngineContext["noise"],
): Simulate {
  // The quickstart's simulator knows its prompt as it is; other raw text begins as the tokenizer begins a text.
  const form =
    prompt === "quickstart"
      ? {}
      : chatTemplate === null
        ? { encoding: { begin: true } }
        : { chat: (text: Prompt) => chatTemplate.renderPrompt(simulatorMessages(text), chatTemplateKwargs) };
  const stop = compileTextStops([simulatorStop(shared.documents)], tokenizer, vocabulary);
  const local = { generator, model, ...(adapter === undefined ? {} : { adapter }), tokenizer, stop };
  return (noise = risingNoise) => new SimulatedSearch({ ...shared, ...local, ...form, noise });
}

function countsOf(client: ChatClient, several: boolean): Readonly<Record<string, number>> {
  const { requests, retries, seconds, promptTokens, completionTokens, estimatedPromptTokens, estimatedCompletionTokens } =
    client.takeCounts();
  return {
    ...(several ? { simulator_moved: client.takeMoved() } : {}),
    simulator_requests: requests,
    simulator_retries: retries,
    simulator_seconds: seconds,
    simulator_prompt_tokens: promptTokens,
    simulator_completion_tokens: completionTokens,
    ...(estimatedPromptTokens === 0 ? {} : { simulator_prompt_tokens_estimated: estimatedPromptTokens }),
    ...(estimatedCompletionTokens === 0 ? {} : { simulator_completion_tokens_estimated: estimatedCompletionTokens }),
  };
}

/** A model that judges, by the section `judge`: asked in this process or behind an endpoint, greedily. */
import type { Config } from "../config/index.ts";
import { generateUnlessAborted } from "../generate/sequence.ts";
import { compileTextStops } from "../generate/stop-automaton.ts";
import { steadyClock } from "../log/progress.ts";
import { spelled } from "../search/endpoint.ts";
import { openChat, tokensOf } from "../search/open-chat.ts";
import type { Closing } from "../setup/closing.ts";
import { policyName } from "../setup/open-agents.ts";
import { openPolicy } from "../setup/open-policy.ts";
import { prepareDevice } from "../setup/prepare-device.ts";
import type { PromptPart } from "../text/prompt.ts";
import { thoughtDecoder } from "../text/thinking.ts";
import { RequestError } from "../util/errors.ts";
import { philox, streamKey, uniform } from "../util/philox.ts";
import { Slots } from "../util/slots.ts";
import { Stopping } from "../util/stopping.ts";
import { say } from "./program.ts";

/** Questions to a model in this process at a time. */
const atOnce = 1024;

export interface OpenedJudge {
  /** What the model replies; null where the prompt does not fit. `n` numbers what it is asked. */
  readonly ask: (prompt: readonly PromptPart[], n: number) => Promise<string | null>;
  readonly takeCounts: () => Readonly<Record<string, number>>;
}

/** @throws as `openChat` and `openPolicy` */
export function openJudge(config: Config, closing: Closing, signal: AbortSignal): Promise<OpenedJudge> {
  return config.judge.kind === "endpoint" ? openEndpointJudge(config, signal) : openModelJudge(config, closing, signal);
}

async function openEndpointJudge({ judge, seed }: Config, signal: AbortSignal): Promise<OpenedJudge> {
  const client = await openChat("judge", { ...judge, endpoint: judge.endpoint ?? [] }, { now: steadyClock, say });
  const slots = new Slots(4 * judge.endpointConcurrency);
  const stopping = new Stopping(signal);
  const ask: OpenedJudge["ask"] = (prompt, n) =>
    stopping.run((own) =>
      slots.run(async () => {
        const [a, b] = philox(streamKey(seed, "evaluation"), [0, n, 0, 0]);
        const { text } = await client.reply({
          messages: [{ role: "user", content: spelled(prompt) }],
          ...{ maxTokens: judge.maxNewTokens, temperature: 0, topP: 1, topK: 0, stop: [], seed: 0, mayBeEmpty: true },
          jitter: (wait) => uniform([a, b], [wait, 0, 0, 0]),
          signal: own,
        });
        return text;
      }, own),
    );
  return { ask, takeCounts: () => tokensOf(client, "judge") };
}

/** The judge has the policy's place: it is opened when the policy has done its part. */
async function openModelJudge(config: Config, closing: Closing, signal: AbortSignal): Promise<OpenedJudge> {
  const { judge, model, lora, rollout, seed } = config;
  const own = judge.path === null ? config : { ...config, model: { ...model, policy: judge.path }, lora: { ...lora, rank: 0, from: null } };
  const opened = await openPolicy(own, { closing });
  await prepareDevice(opened.device, own, opened, { trains: false });
  const { policy, generator } = opened;
  const { tokenizer, chatTemplate, adapter, decoder } = policy;
  const stop = compileTextStops([], tokenizer, decoder.config.vocabulary);
  const decode = thoughtDecoder(tokenizer);
  const slots = new Slots(atOnce);
  const stopping = new Stopping(signal);
  const request = { stop, maxNewTokens: judge.maxNewTokens, sampling: { temperature: 0, topK: 0, topP: 1 } };
  const ask: OpenedJudge["ask"] = (asked, n) =>
    stopping.run((ownSignal) =>
      slots.run(async () => {
        const prompt =
          chatTemplate === null ? asked : chatTemplate.renderPrompt([{ role: "user", content: asked }], rollout.chatTemplateKwargs);
        const ids = tokenizer.encodePrompt(prompt, { begin: chatTemplate === null });
        // What does not fit is not judged.
        if (ids.length + judge.maxNewTokens > policy.maxPositions) return null;
        const key = { step: 0, question: n, rollout: 0 };
        const sequence = generator.open({ model: policyName, adapter, key, seed, purpose: "evaluation", turn: 0, prompt: ids });
        try {
          return decode((await generateUnlessAborted(sequence, request, ownSignal)).ids);
        } catch (error) {
          if (error instanceof RequestError) return null;
          throw error;
        } finally {
          sequence.close();
        }
      }, ownSignal),
    );
  return { ask, takeCounts: () => ({}) };
}

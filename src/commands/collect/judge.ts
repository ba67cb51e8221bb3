/** The second stage of `zerosearch collect`: every document is judged, and what is judged is kept. */
import { join } from "node:path";
import type { Config } from "../../config/index.ts";
import { generateUnlessAborted } from "../../generate/sequence.ts";
import { JsonLines } from "../../log/json-lines.ts";
import { Progress, steadyClock } from "../../log/progress.ts";
import { spelled } from "../../search/endpoint.ts";
import { openChat, tokensOf } from "../../search/open-chat.ts";
import { Closing } from "../../setup/closing.ts";
import { policyName, scoreRules } from "../../setup/open-agents.ts";
import { openPolicy } from "../../setup/open-policy.ts";
import { prepareDevice } from "../../setup/prepare-device.ts";
import { compileTextStops } from "../../generate/stop-automaton.ts";
import type { CollectedRollout, JudgedRollout } from "../../simulator/collected.ts";
import { judgeAllByModel, judgeAllByRule, type AskJudge } from "../../simulator/judge.ts";
import { checkJudgePrompt, judgePrompt, labelIn, usualJudgePrompt } from "../../simulator/model-judge.ts";
import { promptSet } from "../../data/prompt-set.ts";
import { thoughtDecoder } from "../../text/thinking.ts";
import { RequestError } from "../../util/errors.ts";
import { philox, streamKey, uniform } from "../../util/philox.ts";
import { Slots } from "../../util/slots.ts";
import { Stopping } from "../../util/stopping.ts";
import { sameCommand, say } from "../program.ts";
import { noteWork } from "./spent.ts";
import { workFiles } from "./work.ts";

/** Documents that are being judged in this process at a time. */
const atOnce = 1024;

/** The labels of all rollouts, in their order; `done` are those that were judged before. */
export async function judgeAll(
  config: Config,
  {
    work,
    rollouts,
    done,
    signal,
  }: {
    readonly work: string;
    readonly rollouts: readonly CollectedRollout[];
    readonly done: readonly JudgedRollout[];
    readonly signal: AbortSignal;
  },
): Promise<JudgedRollout[]> {
  const { collect, judge } = config;
  if (judge.kind === "rule") return judgeAllByRule(rollouts, collect.maxWords, scoreRules(config));
  const nameOf = ({ index, rollout }: Pick<JudgedRollout, "index" | "rollout">): string => `${index}/${rollout}`;
  const byName = new Map(done.map((one) => [nameOf(one), one]));
  const left = rollouts.filter((one) => !byName.has(nameOf(one)));
  if (left.length > 0) for (const one of await judgeByModel(config, { work, left, signal })) byName.set(nameOf(one), one);
  return rollouts.map((one) => byName.get(nameOf(one)) as JudgedRollout);
}

async function judgeByModel(
  config: Config,
  { work, left, signal }: { readonly work: string; readonly left: readonly CollectedRollout[]; readonly signal: AbortSignal },
): Promise<JudgedRollout[]> {
  const judged: JudgedRollout[] = [];
  const closing = new Closing();
  const from = steadyClock();
  await closing.after(async () => {
    const { ask, takeCounts } =
      config.judge.kind === "endpoint" ? await openEndpointJudge(config, signal) : await openModelJudge(config, closing, signal);
    const log = closing.add(new JsonLines<JudgedRollout>(join(work, workFiles.judged), sameCommand), (one) => one.close());
    const total = left.reduce((sum, { searches }) => sum + searches.reduce((all, { documents }) => all + documents.length, 0), 0);
    const progress = new Progress({ label: "judging", total, unit: "documents", plainInterval: 15_000 });
    let count = 0;
    const onJudged = (one: JudgedRollout): void => {
      judged.push(one);
      log.append([one]);
      count += one.labels.reduce((sum, labels) => sum + labels.length, 0);
      progress.update(count);
    };
    try {
      await judgeAllByModel(left, config.collect.maxWords, ask, onJudged);
    } finally {
      progress.finish();
      log.sync();
      noteWork(work, { seconds: (steadyClock() - from) / 1000, counts: takeCounts() });
    }
  });
  return judged;
}

interface OpenedJudge {
  readonly ask: AskJudge;
  readonly takeCounts: () => Readonly<Record<string, number>>;
}

/** @throws FileError, ConfigError as `promptSet` and `checkJudgePrompt` */
export function promptOfJudge(judge: Config["judge"]): string {
  const text = judge.prompt === "usual" ? usualJudgePrompt : (promptSet(judge.prompt).text ?? "");
  checkJudgePrompt(text, `judge.prompt=${judge.prompt}`);
  return text;
}

async function openEndpointJudge(config: Config, signal: AbortSignal): Promise<OpenedJudge> {
  const { judge, seed } = config;
  const template = promptOfJudge(config.judge);
  const client = await openChat("judge", { ...judge, endpoint: judge.endpoint ?? [] }, { now: steadyClock, say });
  const slots = new Slots(4 * judge.endpointConcurrency);
  const stopping = new Stopping(signal);
  const ask: AskJudge = (query, document, n) =>
    stopping.run((own) =>
      slots.run(async () => {
        const [a, b] = philox(streamKey(seed, "evaluation"), [0, n, 0, 0]);
        const reply = await client.complete({
          messages: [{ role: "user", content: spelled(judgePrompt(template, query, document)) }],
          ...{ maxTokens: judge.maxNewTokens, temperature: 0, topP: 1, topK: 0, stop: [], seed: 0 },
          jitter: (wait) => uniform([a, b], [wait, 0, 0, 0]),
          signal: own,
        });
        return labelIn(reply);
      }, own),
    );
  return { ask, takeCounts: () => tokensOf(client, "judge") };
}

/** The judge has the policy's place: it is opened when the policy has done its part. */
async function openModelJudge(config: Config, closing: Closing, signal: AbortSignal): Promise<OpenedJudge> {
  const { judge, model, lora, rollout, seed } = config;
  const template = promptOfJudge(config.judge);
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
  const ask: AskJudge = (query, document, n) =>
    stopping.run((ownSignal) =>
      slots.run(async () => {
        const asked = judgePrompt(template, query, document);
        const prompt =
          chatTemplate === null ? asked : chatTemplate.renderPrompt([{ role: "user", content: asked }], rollout.chatTemplateKwargs);
        const ids = tokenizer.encodePrompt(prompt, { begin: chatTemplate === null });
        // What does not fit is not judged.
        if (ids.length + judge.maxNewTokens > policy.maxPositions) return null;
        const key = { step: 0, question: n, rollout: 0 };
        const sequence = generator.open({ model: policyName, adapter, key, seed, purpose: "evaluation", turn: 0, prompt: ids });
        try {
          return labelIn(decode((await generateUnlessAborted(sequence, request, ownSignal)).ids));
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

/** Whether a rollout's context holds what the rollout may need. */
import { promptIds } from "../agent/prompts.ts";
import type { Config } from "../config/index.ts";
import { formatCount } from "../log/progress.ts";
import type { Run } from "./run.ts";

export interface ContextRoom {
  /** Tokens at which a rollout ends: those of the configuration, or the policy's positions. */
  readonly limit: number;
  /** Tokens that the prompt and all searches, each with its turn, can come to; a last turn comes on top. */
  readonly needed: number;
  /** Tokens after the prompt. */
  readonly remaining: number;
  /** Searches of full length that fit these. */
  readonly searches: number;
}

/** @param sizes - tokens of the longest prompt, and of the policy's positions */
export function contextRoom(
  { maxContextTokens, maxTurns, maxNewTokens, maxObservationTokens }: Config["rollout"],
  { prompt, positions }: { readonly prompt: number; readonly positions: number },
): ContextRoom {
  const limit = Math.min(maxContextTokens, positions);
  const search = maxNewTokens + maxObservationTokens;
  const remaining = Math.max(0, limit - prompt);
  return { limit, needed: prompt + Math.max(maxTurns * search, maxNewTokens), remaining, searches: Math.floor(remaining / search) };
}

/** What a person should know of it before the run starts: nothing where all fits. */
export function contextNotes({ config: { rollout }, policy, method, context, data }: Run): string[] {
  const { dialect, searches = true } = method;
  const longest = [...data.train, ...data.validation, ...data.test].reduce(
    (most, { question }) => (question.length > most.length ? question : most),
    "",
  );
  const prompt = dialect === undefined ? 0 : promptIds(dialect, { question: longest }, context.prompts, context.tokenizer).length;
  const turns = searches ? rollout.maxTurns : 0;
  const room = contextRoom({ ...rollout, maxTurns: turns }, { prompt, positions: policy.maxPositions });
  const short = policy.maxPositions < rollout.maxContextTokens;
  if (!short && room.needed <= room.limit) return [];
  const why = short
    ? `as the policy has no more positions; rollout.maxContextTokens is ${rollout.maxContextTokens}`
    : "rollout.maxContextTokens";
  const end = `note: rollouts end at ${room.limit} tokens, ${why}`;
  if (room.needed <= room.limit) return [end];
  const leaves = `${end}. The longest prompt leaves ${formatCount(room.remaining)} of them`;
  const most = formatCount(room.needed - prompt);
  if (turns === 0) return [`${leaves}; the turn may take ${most} (rollout.maxNewTokens)`];
  return [`${leaves}, room for ${room.searches} of the ${turns} searches (rollout.maxTurns) at full length, which take ${most}`];
}

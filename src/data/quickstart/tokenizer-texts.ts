/** The texts from which the quickstart's tokenizer learns its merges. */
import { trainBpe, type TokenizerJson } from "../../text/train-bpe.ts";
import type { InventedSource } from "./invented.ts";
import { defaultSpoil, skillOptions, type PolicyOptions } from "./policy-options.ts";
import { simulatorPrompt } from "./prompts.ts";
import { PolicyScript, segmentText } from "./scripted-policy.ts";

/** Id 0 and id 1. No plain sentence holds these strings. */
export const padToken = "<|pad|>";
/** Ends every example. */
export const eosToken = "<|eos|>";

/**
 * Scripted trajectories, nine tenths of them about invented countries, and the simulator's prompt: merges go to common words and to the pieces of which all names are made,
 * not to the training countries' own names, which would otherwise be one token each where a held-out name is four.
 */
export function* tokenizerTexts(source: InventedSource, seed: number): Generator<string> {
  // Spelt out where tuning is likely to change a default: the vocabulary should outlive that.
  const policy: PolicyOptions = {
    ...skillOptions,
    subjects: { invented: 0.9, false: 0, real: 0.1 },
    noiseShare: 0.35,
    directShare: 0.05,
    ragShare: 0.1,
    twoHopShare: 0.5,
    maxSearches: 4,
  };
  const skill = new PolicyScript(source, `${seed}/tokenizer/skill`, policy);
  const spoil = new PolicyScript(source, `${seed}/tokenizer/spoil`, { ...policy, spoil: { ...defaultSpoil, guessAfterNoise: 0.65 } });
  for (let i = 0; i < 4500; i++) yield segmentText(skill.next());
  for (let i = 0; i < 1500; i++) yield segmentText(spoil.next());
  // The simulator's documents are sentences of the same kinds; only the words of its prompt are new.
  for (let i = 0; i < 1500; i++) yield simulatorPrompt({ question: "", answer: "", query: "", useful: i % 2 === 0 });
}

/** Trains the quickstart's tokenizer. */
export function makeTokenizer(source: InventedSource, seed: number, vocabSize = 1024): TokenizerJson {
  return trainBpe(tokenizerTexts(source, seed), { vocabSize, specialTokens: [padToken, eosToken], countPower: 0.75 });
}

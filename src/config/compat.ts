/** The section `compat`: one key for each fault of SQuAD's script and of the code that was released with the paper. docs/compat.md has their places. */
import { flag, rare, section } from "../util/fields.ts";

const fault = (doc: string) => rare(flag(false, doc));

export const compatSettings = section(
  "Faults of SQuAD's script and the released code, by name; none unless asked for. algorithm.name=zerosearch-compat has them all (docs/compat.md).",
  {
    emptyAnswers: fault(
      'Where nothing of a right answer is left in normal form ("A", "+"), F1 pays nothing and exact match pays an empty answer; false compares such answers as they are written.',
    ),
    containmentAsEm: fault("Exact match is paid, and reported as em, where the answer contains a right one, as subem does."),
    promptAnswers: fault(
      'A rollout is scored by the last closed answer tag of its prompt and its text: without an answer, by "Beijing" with the paper\'s prompt. Training, validation and evaluation.',
    ),
    misalignedContext: fault(
      "In training, the i-th rollout of a step that searches in a turn has its documents written for question and answers of the i-th rollout of the step. It waits for those before it.",
    ),
    lastSearch: fault("A search in the last generation is made, and its result thrown away."),
    noStops: fault(
      "A turn is sampled to an end-of-sequence token or to rollout.maxNewTokens, and then cut after its first </search>, or else its first </answer>.",
    ),
    dropEos: fault("End-of-sequence tokens that the policy sampled are not learnt from."),
    sampledEvaluation: fault("Validation and evaluation sample as training does (rollout.temperature, topK, topP), and are not greedy."),
    klSign: fault("The sign of a KL term in the loss is turned: distance from the reference policy is rewarded."),
    documentsAsActions: fault(
      "Documents are taken for the policy's own tokens by gae and reinforce_plus_plus, by whitening, and in the loss of a critic; the policy's loss leaves them out all the same.",
    ),
    microBatchMean: fault(
      "The loss is the mean over micro-batches of the mean over their policy tokens, so that train.microBatchTokens changes the result.",
    ),
  },
);

/** The settings of `zerosearch collect`: sections of the configuration. */
import { z } from "zod";
import { endpointKeys } from "../search/settings.ts";
import { choice, nameOrFile, nameOrText, optionalModel, optionalPaths, rare, real, section, whole } from "../util/fields.ts";

/** Who asks the engine. */
export const askers = ["model", "endpoint", "queries"] as const;

/** How a search's documents become sets. */
export const setRules = ["returned", "sorted"] as const;
export type SetRule = (typeof setRules)[number];

const share = (value: number, doc: string) => rare(z.number().min(0).max(1).default(value).describe(doc));

export const collectSettings = section(
  "Examples for a simulator, of `zerosearch collect` alone (docs/simulator.md): a policy searches for the questions of data.train with evaluation.engine.",
  {
    questions: rare(whole(0, {}, "Questions that are searched for, the first ones of data.train; 0 takes all.")),
    exclude: rare(
      optionalPaths(
        "Files of questions that are left out of data.train, besides those of data.validation and data.test: compared as texts.",
      ),
    ),
    policy: rare(
      nameOrFile(
        askers,
        "model",
        "Who searches: the model of model.policy in this process, by rollout.method; a chat model at collect.endpoint; the queries that each question has in metadata.queries; or a module that exports a function of (question, search).",
      ),
    ),
    rollouts: rare(whole(1, { min: 1, max: 64 }, "Times that each question is answered.")),
    ...endpointKeys("the policy"),
    maxNewTokens: rare(whole(500, { min: 1 }, "Tokens that the policy at the endpoint may write in one turn.")),
    documents: rare(whole(5, { min: 1, max: 100 }, "Documents of a set; an engine that returns more gives more to choose from.")),
    maxWords: rare(
      whole(40, {}, "Words of a document: of a longer one, the passage that has most of the query's words; 0 takes it whole."),
    ),
    sets: rare(
      choice(
        setRules,
        "What a search makes. returned: its first documents, a useful set where one of them is useful, else a noisy one. sorted: a useful set of the first documents where one is useful, and a noisy set of its first noisy ones.",
      ),
    ),
    randomNoise: share(0, "Share of the noisy sets whose documents are those of other searches, drawn at random."),
    keepNoisy: share(1, "Share of the noisy sets that are kept, drawn at random: where useful sets are few, or harder to learn."),
    distractorWeight: rare(real(1, { max: 1 }, "Weight in the loss of the documents of a useful set that are not useful.")),
    validationShare: share(
      0.05,
      "Share of the questions whose examples go to a file of their own, FILE.validation.jsonl, for sft.validation.",
    ),
  },
);

export const judgeSettings = section(
  "Who judges: for `zerosearch collect`, whether a document is useful for its query; for `zerosearch rescore --metric judge`, whether an answer is right.",
  {
    kind: rare(
      choice(
        ["rule", "model", "endpoint"],
        "Rule: it holds a right answer, or, in a rollout that answers right, what the next query asks on with; model: a model in this process says; endpoint: one at judge.endpoint does.",
      ),
    ),
    path: rare(optionalModel("The judge in this process; null takes model.policy.")),
    ...endpointKeys("the judge"),
    prompt: rare(
      nameOrText(
        ["usual"],
        "What the judge is asked: our own text, or a file with {query} and {document} in it; the last useful or noisy that it says counts.",
      ),
    ),
    maxNewTokens: rare(whole(16, { min: 1 }, "Tokens that the judge may write; one that thinks first needs more.")),
  },
);

export type CollectSettings = z.output<typeof collectSettings>;
export type JudgeSettings = z.output<typeof judgeSettings>;

/** One question answered: shown as it comes, or as one JSON object. */
import type { AgentContext, Method } from "../../agent/methods/method.ts";
import { watched } from "../../agent/watch.ts";
import { TaggedText } from "../../log/tagged-text.ts";
import type { Question, SearchTrajectory } from "../../rl/trajectory.ts";
import type { SearchEngine } from "../../search/search-engine.ts";

/** Who is asked. */
export interface Asked {
  readonly method: Method;
  readonly engine: SearchEngine;
  /** Greedy. */
  readonly context: AgentContext;
  /** In words. */
  readonly used: { readonly policy: string; readonly engine: string };
}

export interface Answering {
  readonly json: boolean;
  readonly signal: AbortSignal;
  readonly write: (text: string) => void;
}

const unanswered = {
  length: "the context, or the tokens of a turn, ran out",
  noAnswer: "all turns were used",
  failed: "a search failed",
} as const;

/** Answers question `index` and writes it. @throws RequestError where it does not fit; whatever engine and generator throw */
export async function answer(question: string, index: number, asked: Asked, { json, signal, write }: Answering): Promise<void> {
  const { method, engine, context, used } = asked;
  const tags = method.dialect?.tags ?? [];
  const turns: string[] = [];
  const shown = new TaggedText(tags, json ? () => undefined : write);
  let length = 0;
  const onText = (text: string): void => {
    shown.push(text.slice(length));
    length = text.length;
  };
  const looking = watched(
    { ...context, engine, key: { step: 0, question: index, rollout: 0 }, signal },
    {
      onText,
      onTurn(text) {
        onText(text);
        shown.flush();
        length = 0;
        turns.push(text);
      },
      onDocuments: (_, text) => shown.block("documents", text),
    },
  );
  const row: Question = { id: "asked", question, goldenAnswers: [], dataSource: "asked" };
  const trajectory = await method.run(row, looking);
  if (json) write(`${JSON.stringify(answerJson(trajectory, turns, used))}\n`);
  else if (trajectory.status !== "answered") shown.block("no answer", unanswered[trajectory.status]);
  else if (!tags.includes("answer")) shown.block("answer", trajectory.answer ?? "");
}

function answerJson({ question, answer, status, searches, text }: SearchTrajectory, turns: readonly string[], used: Asked["used"]): object {
  return {
    question: question.question,
    answer,
    status,
    ...used,
    turns: turns.map((written, turn) => {
      const search = searches.find((one) => one.turn === turn);
      const think = [...written.matchAll(/<think>(.*?)<\/think>/gs)].map(([, thought = ""]) => thought.trim()).join("\n");
      return { think: think === "" ? null : think, search: search?.query ?? null, documents: search?.documents ?? [], text: written };
    }),
    text,
  };
}

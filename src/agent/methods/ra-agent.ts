/**
 * RA-Agent: the RAG agent of Search-o1. It searches, is shown titles, addresses and beginnings, and fetches whole pages; `maxTurns` searches and as many pages
 * (5 there) in twice as many turns (10). Where the original goes on without a word after a query or a page that was asked for before, this says so.
 *
 * Source: Search-o1 (arXiv 2501.05366), `scripts/run_rag_agent.py` at github.com/sunnynexus/Search-o1 (6ced48f, MIT licence).
 */
import type { Question } from "../../rl/trajectory.ts";
import { askEngine, fetchPage } from "../ask-engine.ts";
import { neutralise } from "../dialects/dialect.ts";
import { pageParts, raAgent as dialect } from "../dialects/ra-agent.ts";
import { frameOf, observationIds, shownIds } from "../observation.ts";
import { fitting, type OpenTurn, type Reply } from "../rollout.ts";
import type { Method, MethodContext } from "./method.ts";
import { converseInBoxes, refusal } from "./search-o1-turns.ts";

const pagesUsed = "The maximum number of URL fetches has been reached. You are not allowed to fetch more URLs.";
const fetchedBefore = "You have fetched these pages. Please refer to previous results.";
/** What is shown of an address that no document of the rollout, and none of the engine, has. */
export const noPage = "No page of this address is available.";

export const raAgent = {
  name: "ra-agent",
  dialect,
  run: (question, context) => converseInBoxes(question, dialect, context, (turn) => respond(turn, question, context)),
} satisfies Method;

async function respond(taken: OpenTurn, question: Question, context: MethodContext): Promise<Reply> {
  const { tokenizer, settings } = context;
  const { action, turn, room, transcript } = taken;
  if (action.kind === "fetch") return fetchPages(action.addresses, taken, context);
  if (action.kind !== "search") return "end";
  const say = (text: string): Reply => fitting(tokenizer.encodePrompt(dialect.observe(text)), room);
  const refused = refusal(action.query, transcript, settings);
  if (refused !== null) return say(refused);
  if (room <= frameOf((text) => dialect.observe(text), tokenizer)) return "full";
  const record = await askEngine(action.query, turn, question, dialect, context);
  transcript.searches.push(record);
  return fitting(observationIds(record.text, dialect, tokenizer, settings.maxObservationTokens), room);
}

/** All pages of a turn in one observation, those that were not fetched before. */
async function fetchPages(addresses: readonly string[], { turn, room, transcript }: OpenTurn, context: MethodContext): Promise<Reply> {
  const { tokenizer, settings } = context;
  const say = (text: string): Reply => fitting(tokenizer.encodePrompt(pageParts(text)), room);
  const left = settings.maxTurns - transcript.pages.length;
  if (left <= 0) return say(pagesUsed);
  const wanted = addresses.filter((one) => !transcript.pages.some(({ address }) => address === one)).slice(0, left);
  if (wanted.length === 0) return say(fetchedBefore);
  if (room <= frameOf(pageParts, tokenizer)) return "full";
  const shown: string[] = [];
  for (const address of wanted) {
    const page = await fetchPage(address, turn, transcript.searches, context);
    const whole = page === null ? noPage : page.title === undefined ? page.text : `${page.title}\n${page.text}`;
    const text = neutralise(whole, dialect);
    transcript.pages.push({ turn, address, found: page !== null, text });
    shown.push(`  ${JSON.stringify(neutralise(address, dialect))}: ${JSON.stringify(text)}`);
  }
  return fitting(shownIds(`{\n${shown.join(",\n")}\n}`, pageParts, tokenizer, settings.maxObservationTokens), room);
}

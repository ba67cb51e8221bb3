import { expect, it } from "vitest";
import { alternate } from "../../src/commands/quickstart/world-files.ts";
import { loadCountryRecords, makeCountries } from "../../src/data/quickstart/countries.ts";
import { evaluationQuestions, validationQuestions } from "../../src/data/quickstart/question-sets.ts";
import { makeWorld } from "../../src/data/quickstart/world.ts";

it("the first n questions of a test or validation file are half one-hop and half two-hop, and none is lost", () => {
  const world = makeWorld(makeCountries(loadCountryRecords()), { seed: 7 });
  for (const questions of [evaluationQuestions(world), validationQuestions(world)]) {
    const mixed = alternate(questions);
    expect(mixed.map(({ metadata }) => metadata.hops)).toEqual(mixed.map((_, i) => 1 + (i % 2)));
    expect(new Set(mixed)).toEqual(new Set(questions));
    expect(mixed).toHaveLength(questions.length);
  }
});

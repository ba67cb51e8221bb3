/** Looks at weights before a run works with them. */
import { notFinite } from "../optim/not-finite.ts";
import { FileError } from "../util/errors.ts";
import { learningParameters, type Model } from "./open-model.ts";

/** Names listed. */
const LISTED = 4;

/**
 * Refuses a policy whose weights hold NaN or infinity. In rows that no text uses they change no result, so that they would be met when
 * the first state is saved, which they prevent.
 * @throws FileError naming the tensors.
 */
export async function refuseDamagedWeights(policy: Pick<Model, "source" | "decoder" | "adapter">): Promise<void> {
  const weights = learningParameters(policy);
  const damaged = await notFinite(weights);
  if (damaged.length === 0) return;
  const more = damaged.length > LISTED ? ` and ${damaged.length - LISTED} more` : "";
  throw new FileError({
    where: policy.adapter === undefined ? policy.source : `the adapter on ${policy.source}`,
    what: `${damaged.length} of ${weights.size} tensors hold NaN or infinity: ${damaged.slice(0, LISTED).join(", ")}${more}`,
    hint: "the training that it comes from has diverged, or a file is damaged: copy or download it again",
  });
}

/** Trains the quickstart's policy for three steps through the public API, logged and saved as a run. Run: `node dist/examples/three-steps.js` */
import { openTraining, packagedConfig } from "zerosearch";

const training = await openTraining({
  config: packagedConfig("quickstart"),
  settings: ["name=three-steps", "train.steps=3", "train.questionsPerStep=4", "train.groupSize=4", ...process.argv.slice(2)],
});
try {
  for await (const { step, scored, metrics } of training.steps()) {
    console.log(`step ${step}: reward ${metrics["reward/mean"]?.toFixed(3)}, searches ${metrics["rollout/searches"]?.toFixed(2)}`);
    const [best] = [...scored].sort((a, b) => b.reward - a.reward);
    console.log(`  best rollout: ${JSON.stringify(best?.trajectory.text.slice(0, 120))}`);
  }
} finally {
  await training.close();
}

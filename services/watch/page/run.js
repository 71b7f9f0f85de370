// The run behind the game: its curves, what to make of them, and what it came to.

import { drawChart, largestX, short } from "./charts.js";
import { duration, put, setClock } from "./words.js";

const LEVEL = 0.05; // a smaller change, relative, is none
const byId = (id) => document.getElementById(id);

let run = null;
let stillError = null;

/** Whether somebody trains it now. */
export function isTraining() {
  return Boolean(run?.trainer);
}

/** Takes what it would cost a model to show the mean picture always; null while that is unknown. */
export function setStillError(error) {
  const isNews = stillError === null && error !== null;
  stillError = error;
  if (isNews && run) judge(run.curves);
}

/** Draws what the server tells of the run. */
export function drawRun(told) {
  run = told;
  setClock(run.now_s);
  document.title = `${run.task}: dreamer watch`;
  put("task", run.task);
  put("run", `run ${run.run}, preset ${run.preset}, seed ${run.seed}`);
  byId("run").title = byId("run").textContent;
  const isDone = run.is_demo || run.policy_step >= run.total_policy_steps;
  const ended = isDone ? "Training has ended" : "Training is stopped";
  put("training", run.trainer ? "Training is running" : ended);
  byId("training").dataset.is = run.trainer ? "running" : "ended";
  drawEnd(isDone);
  put("env-frames", short(run.env_frame));
  put("gradient-steps", short(run.gradient_step));
  put("share", `${run.is_demo ? 100 : Math.floor((100 * run.policy_step) / run.total_policy_steps)}%`);
  put("policy-speed", short(run.values.dreamer_policy_steps_per_second));
  put("gradient-speed", short(run.values.dreamer_gradient_steps_per_second));
  put("ratio", short(run.values.dreamer_policy_steps_per_gradient_step));
  const when = run.reported_s && `Newest report ${duration(run.now_s - run.reported_s)} ago.`;
  put("reported", when || "No report yet.");
  byId("reported").hidden = !run.trainer && Boolean(when);
  drawCurves(run.curves);
  judge(run.curves);
}

function drawEnd(isDone) {
  byId("ended").hidden = Boolean(run.trainer) || !run.reported_s;
  const { score } = run;
  const isSampled = score?.played === "training"; // which is no score as the paper has it
  const result = score ? `${isSampled ? "return" : "final score"} ${short(score.mean)}` : "no score";
  put("took", `${isDone ? "Done" : "Stopped"} after ${duration(run.trained_s)}, ${result}`);
  const how = isSampled ? ", actions sampled" : "";
  put("scored", score ? `mean of the last ${score.episodes} ${score.played} episodes${how}` : "since no episode ended");
}

function drawCurves(curves) {
  const points = (name) => curves[name] ?? [];
  const end = largestX(Object.values(curves).map((of) => ({ points: of })));
  byId("evaluation-key").hidden = !points("evaluation").length;
  drawChart(
    byId("returns"),
    [
      { points: points("return"), color: "faint", isDots: true },
      { points: points("mean_return"), color: "blue" },
      { points: points("evaluation"), color: "orange", isDots: true, radius: 3.5 },
    ],
    { x: "env frames", left: "episode return" },
    "no episode has ended yet",
    end,
  );
  drawChart(
    byId("losses"),
    [
      { points: points("image_mse"), color: "green" },
      { points: points("kl"), color: "orange", isRight: true },
    ],
    { x: "env frames", left: "image error a pixel", right: "KL, nats" },
    "no gradient step has been reported yet",
    end,
  );
}

/** Says what good values of image error and KL are in this run, and where it stands. */
function judge(curves) {
  const lines = [];
  const [image, kl] = [curves.image_mse?.at(-1)?.[1], curves.kl?.at(-1)?.[1]];
  if (image !== undefined) {
    const share = stillError ? `: ${compared(image / stillError)} the mean picture's ${short(stillError, 2)}` : "";
    const good = share ? "a small share, not rising" : "falling, and later level";
    lines.push([`Image error ${short(image)}${trend(curves.image_mse)}${share}.`, ` Good: ${good}.`]);
  }
  if (kl !== undefined) {
    const most = run.most_nats ? ` of at most ${short(run.most_nats)}` : "";
    const least = run.free_nats > 0 ? `above the ${short(run.free_nats)} free nats` : "well above 0";
    lines.push([`KL ${short(kl)}${most} nats${trend(curves.kl)}.`, ` Good: ${least} and level.`]);
  }
  byId("judged").replaceChildren(
    ...lines.map(([now, good]) => {
      const line = document.createElement("li");
      const value = document.createElement("b");
      value.textContent = now;
      line.append(value, good);
      return line;
    }),
  );
}

function compared(ratio) {
  return ratio < 2 ? `${Math.round(100 * ratio)}% of` : `${short(ratio, 2)} times`;
}

/** Whether the last tenth of a curve is above the tenth before it. */
function trend(points) {
  const size = Math.floor(points.length / 10);
  if (size < 2) return "";
  const mean = (from, to) => points.slice(from, to).reduce((sum, [, y]) => sum + y, 0) / size;
  const [before, now] = [mean(-2 * size, -size), mean(-size)];
  if (Math.abs(now - before) <= LEVEL * Math.abs(before)) return ", level";
  return now > before ? ", rising" : ", falling";
}

// Draws a frame of the game: screen, dream, what the model sees, actions, and the episode so far.

import { drawActions } from "./actions.js";
import { cents, duration, put, serverNow, signed } from "./words.js";
import { drawChart, short } from "./charts.js";
import { TILE, drawStrip, paintTile } from "./strip.js";

const MAX_SPARK_POINTS = 1000;
const byId = (id) => document.getElementById(id);

let spark = { episode: null, value: [], total: [] };
let look = null; // the frame whose dream is shown beside the game: {episode, t, tiles, imagined}

/** Draws a frame; screen, tiles and imagined are its images. */
export function drawFrame(frame, { screen, tiles, imagined }) {
  paintWhole(byId("screen"), screen);
  drawDream(frame, screen, tiles, imagined);
  ["input", "reconstruction", "difference"].forEach((id, i) => paintTile(byId(id), tiles, i));
  drawFacts(frame);
  drawActions(frame);
  drawStrip(frame, tiles, imagined);
  drawSpark(frame);
}

function paintWhole(canvas, image) {
  if (canvas.width !== image.width) canvas.width = image.width;
  if (canvas.height !== image.height) canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
}

/** Beside the game the dream of some steps ago, as it went on meanwhile without looking. */
function drawDream(frame, screen, tiles, imagined) {
  const horizon = frame.value.length - 1;
  const isSame = look && look.episode === frame.episode && frame.t - look.t <= horizon;
  if (!isSame || frame.t < look.t) look = { episode: frame.episode, t: frame.t, tiles, imagined };
  const ahead = frame.t - look.t;
  const [image, index] = ahead ? [look.imagined, ahead - 1] : [look.tiles, 1];
  const canvas = byId("dream"); // as large as the screen, which was made a square for the model
  if (canvas.width !== screen.width) canvas.width = screen.width;
  if (canvas.height !== screen.height) canvas.height = screen.height;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, index * TILE, 0, TILE, TILE, 0, 0, canvas.width, canvas.height);
  put("ahead", ahead ? `${ahead} step${ahead > 1 ? "s" : ""} blind` : "it looks");
}

function drawFacts(frame) {
  put("episode", frame.episode + 1);
  put("t", frame.is_last ? `${frame.t} (end)` : frame.t);
  put("return", short(frame.episode_return, 4));
  put("reward", frame.reward ? signed(frame.reward, 4) : "0");
  put("value", cents(frame.value[0]));
  put("predicted", cents(frame.predicted_reward[0]));
  put("got", cents(frame.transformed_reward));
  put("reward-unit", frame.reward_unit);
  const age = duration(serverNow() - frame.saved_s);
  put("weights", `weights of gradient step ${frame.gradient_step.toLocaleString("en")}, saved ${age} ago`);
  byId("weights").title = byId("weights").textContent;
}

function drawSpark(frame) {
  if (spark.episode !== frame.episode) spark = { episode: frame.episode, value: [], total: [] };
  spark.value.push([frame.t, frame.value[0]]);
  const before = spark.total.at(-1)?.[1] ?? 0;
  if (before !== frame.episode_return) spark.total.push([frame.t, before]); // a stair, no slope
  spark.total.push([frame.t, frame.episode_return]);
  for (const [name, points] of [["value", spark.value], ["total", spark.total]]) {
    if (points.length > MAX_SPARK_POINTS) spark[name] = points.filter((_, i) => i % 2);
  }
  drawChart(
    byId("spark"),
    [
      { points: spark.value, color: "blue" },
      { points: spark.total, color: "orange", isRight: true },
    ],
    { x: "policy steps of the episode", left: "value", right: "return so far" },
    "",
  );
}

// Draws the game that the server plays, what its agent dreams, and how its run is doing.

import { drawChart, largestX, short } from "./charts.js";

const TILE = 64;
const CURVE_INTERVAL_MS = 5000;
const RETRY_MS = 2000;
const MAX_SPARK_POINTS = 1000;
const ARROWS = {
  UPRIGHT: "↗", UPLEFT: "↖", DOWNRIGHT: "↘", DOWNLEFT: "↙",
  UP: "↑", RIGHT: "→", LEFT: "←", DOWN: "↓", NOOP: "wait",
};
const byId = (id) => document.getElementById(id);

let connection = null;
let waitingFrame = null; // the newest frame that came while another was being drawn
let isDrawing = false;
let spark = { episode: null, value: [], total: [] };
let pace = []; // [ms, policy steps] of the last seconds
let lastStep = null;

// ---- the connection: open only while the page is looked at, so that nobody plays for nobody

function connect() {
  connection?.close();
  connection = null;
  if (document.hidden) return;
  connection = new EventSource("stream");
  connection.onmessage = (event) => take(JSON.parse(event.data));
  connection.onerror = () => {
    say("lost", "Disconnected: trying again …");
    connection?.close();
    connection = null;
    setTimeout(() => connection ?? connect(), RETRY_MS);
  };
}

function say(state, words) {
  document.body.dataset.game = state;
  if (byId("game").textContent !== words) byId("game").textContent = words; // it is read out
  if (state !== "playing") byId("speed").textContent = "";
}

function notice(words) {
  byId("notice").hidden = !words;
  if (byId("notice").textContent !== (words ?? "")) byId("notice").textContent = words ?? "";
}

function take(message) {
  if (message.kind === "waiting") {
    say("waiting", "Waiting for a checkpoint");
    notice(`${message.reason} The game begins by itself once there is one.`);
  } else if (message.kind === "failed") {
    say("failed", "The game has ended");
    notice(message.reason);
  } else {
    waitingFrame = message;
    if (!isDrawing) drawNewest();
  }
}

// ---- one frame

async function drawNewest() {
  isDrawing = true;
  try {
    while (waitingFrame) {
      const frame = waitingFrame;
      waitingFrame = null;
      const [screen, tiles] = await Promise.all([decode(frame.screen), decode(frame.tiles)]);
      drawFrame(frame, screen, tiles);
    }
  } finally {
    isDrawing = false;
  }
}

async function decode(png) {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  return image;
}

function drawFrame(frame, screen, tiles) {
  paintScreen(screen);
  ["input", "reconstruction", "difference"].forEach((id, i) => paintTile(byId(id), tiles, i));
  drawFacts(frame);
  drawActions(frame);
  drawStrip(frame, tiles);
  drawSpark(frame);
  say("playing", "Live");
  put("speed", `, ${measuredSpeed(frame)} of ${short(frame.wanted_speed)} policy steps/s`);
  notice(frame.problem && `The newest checkpoint cannot be used: ${frame.problem}`);
  document.body.dataset.frames = Number(document.body.dataset.frames ?? 0) + 1;
}

function paintScreen(image) {
  const canvas = byId("screen");
  if (canvas.width !== image.width) canvas.width = image.width;
  if (canvas.height !== image.height) canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
}

function paintTile(canvas, tiles, index) {
  const context = canvas.getContext("2d");
  context.drawImage(tiles, index * TILE, 0, TILE, TILE, 0, 0, TILE, TILE);
}

function put(id, words) {
  byId(id).textContent = words;
}

function signed(value, digits = 2) {
  const text = short(value, digits);
  return value > 0 ? `+${text}` : text;
}

/** A number to two digits after the point, without a zero below zero. */
function cents(value) {
  const text = value.toFixed(2);
  return text === "-0.00" ? "0.00" : text;
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
  const age = duration((Date.now() - clockOffsetMs) / 1000 - frame.saved_s);
  put("weights", `weights of gradient step ${frame.gradient_step.toLocaleString("en")}, saved ${age} ago`);
}

function drawActions(frame) {
  const list = byId("actions");
  if (list.children.length !== frame.action_names.length) {
    list.replaceChildren(...frame.action_names.map(actionRow));
    put("acts-title", frame.is_discrete ? "Action probabilities" : "Actions: the actor's mode");
  }
  const taken = frame.is_discrete ? [frame.action].flat() : []; // one, or one a choice
  const name = taken.map((i) => frame.action_names[i]).join(", ");
  put("action", `${name} ${ARROWS[name.replace(/FIRE$/, "")] ?? ""}`);
  frame.preference.forEach((share, i) => {
    const [, track, number] = list.children[i].children;
    const bar = track.firstChild.style;
    bar.left = frame.is_discrete ? "0" : `${50 + 50 * Math.min(share, 0)}%`;
    bar.width = `${(frame.is_discrete ? 100 : 50) * Math.abs(share)}%`;
    number.textContent = frame.is_discrete ? `${(100 * share).toFixed(0)}%` : share.toFixed(2);
    list.children[i].classList.toggle("chosen", taken.includes(i));
  });
}

function actionRow(name) {
  const row = document.createElement("li");
  const [label, track, number] = ["span", "span", "span"].map((x) => document.createElement(x));
  label.textContent = name;
  track.className = "track";
  track.append(document.createElement("i"));
  row.append(label, track, number);
  return row;
}

/** A short word for an action: an arrow for a joystick's position, a dot for its button. */
function actionName(frame, action) {
  if (!frame.is_discrete) return action.map((x) => x.toFixed(1)).join(" ");
  if (Array.isArray(action)) return action.map((i) => frame.action_names[i].split(": ")[1]).join(" ");
  const name = frame.action_names[action];
  if (name === "FIRE") return "●";
  const arrow = ARROWS[name.replace(/FIRE$/, "")];
  if (!arrow) return name.replace(/^action /, "a");
  return name.endsWith("FIRE") ? `${arrow} ●` : arrow;
}

function drawStrip(frame, tiles) {
  const strip = byId("strip");
  const horizon = frame.value.length - 1;
  if (strip.children.length !== horizon) {
    strip.replaceChildren(...Array.from({ length: horizon }, (_, i) => stripCell(i + 1)));
  }
  for (let k = 1; k <= horizon; k += 1) {
    const [canvas, after, value, reward] = strip.children[k - 1].children;
    paintTile(canvas, tiles, 2 + k);
    canvas.style.opacity = 0.2 + 0.8 * frame.lives_on[k];
    after.lastChild.textContent = actionName(frame, frame.imagined_action[k - 1]);
    value.lastChild.textContent = cents(frame.value[k]);
    reward.lastChild.textContent = cents(frame.predicted_reward[k]);
    reward.classList.toggle("good", frame.predicted_reward[k] >= 0.05);
    reward.classList.toggle("bad", frame.predicted_reward[k] <= -0.05);
  }
}

function stripCell(k) {
  const cell = document.createElement("li");
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = TILE;
  canvas.className = "pixels";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Imagined image ${k} policy steps ahead`);
  const rows = [`+${k} `, "V ", "R "].map((label) => {
    const row = document.createElement("div");
    row.append(label, document.createElement("b"));
    return row;
  });
  cell.append(canvas, ...rows);
  return cell;
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
    { x: "policy steps of the episode", left: "value", right: "return" },
    "",
  );
}

function measuredSpeed(frame) {
  const now = performance.now();
  const isNext = lastStep?.episode === frame.episode && frame.t > lastStep.t;
  pace.push([now, isNext ? frame.t - lastStep.t : 1]);
  pace = pace.filter(([ms]) => ms > now - 3000);
  lastStep = { episode: frame.episode, t: frame.t };
  const steps = pace.slice(1).reduce((sum, [, count]) => sum + count, 0);
  return steps ? short((1000 * steps) / (now - pace[0][0])) : "–";
}

// ---- the run

let clockOffsetMs = 0; // this clock minus the server's

async function refreshRun() {
  try {
    if (document.hidden) return;
    const answer = await fetch("curve");
    if (answer.ok) drawRun(await answer.json());
  } catch {
    put("training", ""); // the stream says that the connection is lost
  } finally {
    setTimeout(refreshRun, CURVE_INTERVAL_MS);
  }
}

function drawRun(run) {
  clockOffsetMs = Date.now() - 1000 * run.now_s;
  document.title = `${run.task}: dreamer watch`;
  put("task", run.task);
  put("run", `run ${run.run}, preset ${run.preset}, seed ${run.seed}, plays ${run.mode}`);
  const isDone = run.policy_step >= run.total_policy_steps;
  const ended = isDone ? "Training has ended" : "Training is stopped";
  put("training", run.trainer ? "Training is running" : ended);
  byId("training").dataset.is = run.trainer ? "running" : "ended";
  put("env-frames", short(run.env_frame));
  put("gradient-steps", short(run.gradient_step));
  put("share", `${Math.floor((100 * run.policy_step) / run.total_policy_steps)}%`);
  put("policy-speed", short(run.values.dreamer_policy_steps_per_second));
  put("gradient-speed", short(run.values.dreamer_gradient_steps_per_second));
  put("ratio", short(run.values.dreamer_policy_steps_per_gradient_step));
  const when = run.reported_s && `Newest report ${duration(run.now_s - run.reported_s)} ago.`;
  put("reported", when || "No report yet.");
  drawCurves(run.curves);
}

function drawCurves(curves) {
  const points = (name) => curves[name] ?? [];
  const end = largestX(Object.values(curves).map((of) => ({ points: of })));
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
    { x: "env frames", left: "image MSE", right: "KL, nats" },
    "no gradient step has been reported yet",
    end,
  );
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d`;
}

document.addEventListener("visibilitychange", connect);
connect();
refreshRun();

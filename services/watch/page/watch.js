// The page of `dreamer watch`: takes the game and the run from the server, and has them drawn.

import * as controls from "./controls.js";
import { short } from "./charts.js";
import { drawFrame } from "./game.js";
import { drawRun, isTraining, setStillError } from "./run.js";
import { changesTheme } from "./theme.js";
import { duration, put } from "./words.js";

const CURVE_INTERVAL_MS = 5000;
const RETRY_MS = 2000;
const SLOW = 0.9; // of the speed asked for
const QUIET_MS = 7000; // after so long without a frame the page says so
const byId = (id) => document.getElementById(id);

let connection = null;
let waitingFrame = null; // the newest frame that came while another was being drawn
let isDrawing = false;
let heardMs = 0; // when the newest frame came, or the connection was made
let awaitedMs = 0; // time that the next frame may take at the speed of the newest

// ---- the connection: open only while the page is looked at, so that nobody plays for nobody

function connect() {
  connection?.close();
  connection = null;
  if (document.hidden) return;
  connection = new EventSource("stream");
  connection.onopen = () => {
    heardMs = Date.now();
    say("starting", "Starting the game …");
  };
  connection.onmessage = (event) => take(JSON.parse(event.data));
  connection.onerror = () => {
    say("lost", "Disconnected: trying again …");
    connection?.close();
    connection = null;
    setTimeout(() => connection ?? connect(), RETRY_MS);
  };
}

function say(state, words, more = "") {
  document.body.dataset.game = state;
  put("game", words);
  put("speed", more);
}

function notice(words) {
  byId("notice").hidden = !words;
  put("notice", words ?? "");
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
    heardMs = Date.now();
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
      const pictures = ["screen", "tiles", "imagined"];
      const images = await Promise.all(pictures.map((name) => decode(frame[name])));
      drawFrame(frame, Object.fromEntries(pictures.map((name, i) => [name, images[i]])));
      controls.showCheckpoints(frame.checkpoints);
      setStillError(frame.still_error);
      sayHowItGoes(frame);
      notice(frame.problem && `The checkpoint cannot be used: ${frame.problem}`);
      document.body.dataset.frames = Number(document.body.dataset.frames ?? 0) + 1;
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

/** Says how fast it plays, in amber and with the reason where that is slower than asked. */
function sayHowItGoes({ wanted_speed: wanted, step_s: step, step_cpu_s: cpu }) {
  if (controls.isPaused()) return say("paused", "Paused");
  const possible = step > 0 ? 1 / step : wanted;
  const isSlow = possible < SLOW * wanted;
  const speed = `, ${short(Math.min(possible, wanted))} of ${short(wanted)} policy steps/s`;
  const reason = cpu > step / 2 ? `a step takes ${short(1000 * cpu, 2)} ms here` : busy();
  awaitedMs = 3000 * Math.max(step, 1 / wanted);
  say(isSlow ? "slow" : "playing", "Live", isSlow ? `${speed}: ${reason}` : speed);
}

function busy() {
  return isTraining() ? "training goes first" : "other programs have the processor";
}

/** Says since when nothing came, where the next frame should long be there. */
function sayWhatIsAwaited() {
  const quietMs = Date.now() - heardMs;
  const age = duration(quietMs / 1000);
  const { game } = document.body.dataset;
  if (game === "starting" && quietMs > QUIET_MS) {
    say("starting", "Starting the game", `, ${age} so far${isTraining() ? `: ${busy()}` : ""}`);
  } else if (["playing", "slow"].includes(game) && quietMs > Math.max(QUIET_MS, awaitedMs)) {
    say("slow", "Live", `, no step for ${age}: ${busy()}`);
  }
}

// ---- the run

async function refreshRun() {
  try {
    if (document.hidden) return;
    const answer = await fetch("curve");
    if (!answer.ok) return;
    const run = await answer.json();
    drawRun(run);
    controls.showChoice(run.choice);
    controls.showLastEpisode(run.last_episode);
  } catch {
    put("training", ""); // the stream says that the connection is lost
  } finally {
    setTimeout(refreshRun, CURVE_INTERVAL_MS);
  }
}

document.addEventListener("visibilitychange", connect);
changesTheme(byId("theme"));
controls.begin((choice) => {
  if (choice.is_paused && document.body.dataset.frames) say("paused", "Paused");
});
connect();
refreshRun();
setInterval(sayWhatIsAwaited, 1000);

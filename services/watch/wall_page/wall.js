// Draws every run of a sweep small, and leads to the page of each.

import { short } from "./charts.js";

const INTERVAL_MS = 5000;
const FIRST_MS = 700; // until curves that are still being read
const STATES = ["running", "failed", "waiting", "done"];
const WIDTH = 160; // of a curve, in its own units
const HEIGHT = 76;
const byId = (id) => document.getElementById(id);

let chosen = "all"; // state of the runs that are shown
let newest = null;
const tiles = new Map();

async function refresh() {
  let isWhole = true;
  try {
    if (!document.hidden) {
      const answer = await fetch("wall");
      const told = await answer.json();
      notice(told.problem);
      if (!told.problem) {
        newest = told;
        draw();
        isWhole = told.runs.every((run) => run.curves);
      }
    }
  } catch {
    byId("command").dataset.is = "lost";
    put("command", "Disconnected: trying again …");
  } finally {
    setTimeout(refresh, isWhole ? INTERVAL_MS : FIRST_MS);
  }
}

function draw() {
  const name = newest.sweep.split("/").filter(Boolean).at(-1) ?? newest.sweep;
  document.title = `${name}: dreamer watch`;
  put("sweep", name);
  put("preset", `preset ${newest.preset}`);
  byId("command").dataset.is = newest.holder ? "running" : "ended";
  put("command", newest.holder ? "The sweep is running" : "The sweep is not running");
  const percent = Math.floor(100 * newest.done_ratio);
  byId("share").setAttribute("aria-valuenow", percent);
  byId("share").firstChild.style.width = `${100 * newest.done_ratio}%`;
  put("done", `${percent}%`);
  put("games", `${newest.games_done} of ${newest.games}`);
  put("frames", short(newest.env_frames));
  put("speed", short(newest.env_frames_per_second));
  put("left", newest.time_left_s === null ? "–" : duration(newest.time_left_s));
  drawFilters();
  drawGames();
  document.body.dataset.draws = Number(document.body.dataset.draws ?? 0) + 1;
}

function drawFilters() {
  const counts = { all: newest.runs.length, ...newest.states };
  const group = byId("filters");
  if (!group.children.length) {
    for (const state of ["all", ...STATES]) {
      const button = document.createElement("button");
      button.dataset.state = state;
      button.addEventListener("click", () => {
        chosen = state;
        draw();
      });
      group.append(button);
    }
  }
  if (!counts[chosen]) chosen = "all";
  for (const button of group.children) {
    const { state } = button.dataset;
    button.textContent = `${counts[state]} ${state === "all" ? "runs" : state}`;
    button.disabled = !counts[state];
    button.setAttribute("aria-pressed", state === chosen);
  }
}

function drawGames() {
  const shown = newest.runs.filter((run) => chosen === "all" || run.state === chosen);
  const sections = [];
  for (const game of new Set(shown.map((run) => run.game))) {
    const runs = shown.filter((run) => run.game === game);
    const section = document.querySelector(`section[data-game="${CSS.escape(game)}"]`) ?? newSection(game);
    const axes = extent(newest.runs.filter((run) => run.game === game));
    section.querySelector("h2 span").textContent = axes
      ? `return ${short(axes.low)} to ${short(axes.high)}, ${short(axes.end)} env frames`
      : "";
    section.lastChild.replaceChildren(...runs.map((run) => tile(run, axes)));
    sections.push(section);
  }
  const main = document.querySelector("main");
  const isSame = sections.length === main.children.length && sections.every((s, i) => s === main.children[i]);
  if (!isSame) main.replaceChildren(...sections);
}

function newSection(game) {
  const section = element("section");
  section.dataset.game = game;
  const title = element("h2", "", game);
  title.append(element("span", "muted"));
  section.append(title, element("div", "runs"));
  return section;
}

/** A run: made once, and again where it begins to have a page. */
function tile(run, axes) {
  const kind = run.has_page ? "A" : "DIV";
  let box = tiles.get(run.name);
  if (box?.tagName !== kind) {
    box = newTile(run, kind);
    tiles.set(run.name, box);
  }
  box.dataset.is = run.state;
  const [head, picture, curve, part, numbers, reason] = box.children;
  head.lastChild.textContent = run.state;
  showPicture(picture, run);
  drawCurve(curve, run, axes);
  part.firstChild.style.width = `${Math.min(100, (100 * run.policy_step) / run.steps)}%`;
  numbers.replaceChildren(...facts(run));
  reason.textContent = run.reason && run.state !== "done" ? run.reason : "";
  return box;
}

function newTile(run, kind) {
  const box = element(kind, "run");
  if (run.has_page) box.href = `runs/${encodeURIComponent(run.name)}/`;
  const head = element("header");
  head.append(element("b", "", `seed ${run.seed}`), element("span", "state"));
  const curve = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  curve.setAttribute("class", "curve");
  curve.setAttribute("role", "img");
  const part = element("div", "part");
  part.append(element("i"));
  box.append(head, element("div", "picture"), curve, part, element("p", "numbers"), element("p", "reason"));
  return box;
}

function facts(run) {
  const parts = [`${short(run.env_frame)} env frames`];
  const hasEnded = Object.values(run.curves ?? {}).some((points) => points.length);
  if (run.policy_step && run.curves && !hasEnded) parts.push("no episode has ended");
  if (run.mean_return !== null) parts.push(["return ", short(run.mean_return)]);
  if (run.evaluation_return !== null) parts.push(["evaluation ", short(run.evaluation_return)]);
  if (run.env_frames_per_second !== null) parts.push(`${short(run.env_frames_per_second)} frames/s`);
  if (run.failures) parts.push(`failed ${run.failures} ×`);
  return parts.flatMap((part, i) => [
    i ? " · " : "",
    ...(Array.isArray(part) ? [part[0], element("b", "", part[1])] : [part]),
  ]);
}

/** What the run stored last; of a run that stands still it is asked for once. */
function showPicture(box, run) {
  if (!run.policy_step || box.dataset.step === String(run.policy_step)) return;
  box.dataset.step = run.policy_step;
  const image = new Image();
  image.alt = `Newest image of ${run.game}, seed ${run.seed}`;
  image.addEventListener("load", () => box.replaceChildren(image)); // none where none is observed
  image.src = `pictures/${encodeURIComponent(run.name)}?step=${run.policy_step}`;
}

function drawCurve(svg, run, axes) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const means = run.curves?.mean_return ?? [];
  const evaluations = run.curves?.evaluation ?? [];
  const last = evaluations.at(-1) ?? means.at(-1);
  svg.setAttribute("aria-label", last ? `Return ${short(last[1])} after ${short(last[0])} env frames` : "No episode yet");
  if (!axes || !last) {
    svg.replaceChildren(line(HEIGHT - 0.5));
    return;
  }
  const x = (frame) => (WIDTH * frame) / axes.end;
  const y = (value) => HEIGHT - 4 - ((HEIGHT - 8) * (value - axes.low)) / (axes.high - axes.low);
  const points = means.map(([frame, value]) => `${x(frame).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  // Dots are lines without a length, which stay round however the box is stretched.
  const dot = ([frame, value], kind) => node("path", { d: `M${x(frame)} ${y(value)}h0.01`, class: kind });
  svg.replaceChildren(
    line(HEIGHT - 0.5),
    node("polyline", { points }),
    ...(means.length === 1 ? [dot(means[0], "mean")] : []),
    ...evaluations.map((point) => dot(point, "evaluation")),
  );
}

/** The axes that all runs of a game share; null where no episode has ended. */
function extent(runs) {
  const points = runs.flatMap((run) => Object.values(run.curves ?? {}).flat());
  if (!points.length) return null;
  let [low, high, end] = [Infinity, -Infinity, 1];
  for (const [frame, value] of points) {
    low = Math.min(low, value);
    high = Math.max(high, value);
    end = Math.max(end, frame);
  }
  return low === high ? { low: low - 0.5, high: high + 0.5, end } : { low, high, end };
}

function line(y) {
  return node("line", { x1: 0, x2: WIDTH, y1: y, y2: y });
}

function node(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function element(name, kind = "", words = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = words;
  return made;
}

function put(id, words) {
  if (byId(id).textContent !== words) byId(id).textContent = words;
}

function notice(words) {
  byId("notice").hidden = !words;
  put("notice", words ?? "");
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

refresh();

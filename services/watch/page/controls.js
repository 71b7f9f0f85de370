// How it is played: pause, speed, mode and checkpoint, one choice for all who look.

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const byId = (id) => document.getElementById(id);

let choice = { is_paused: false };
let onChoice = () => {};

/** Shows a choice that the server told. */
export function showChoice(told) {
  choice = told;
  byId("pause").textContent = told.is_paused ? "Play" : "Pause";
  select("mode", told.mode);
  options("speed-choice", [...new Set([...SPEEDS, told.speed])].sort((a, b) => a - b), (x) => `${x}×`);
  select("speed-choice", told.speed);
  if (told.checkpoint !== null && !has("checkpoint", told.checkpoint)) showCheckpoints([told.checkpoint]);
  select("checkpoint", told.checkpoint ?? "");
  onChoice(told);
}

/** Whether the game was paused by somebody who looks. */
export function isPaused() {
  return choice.is_paused;
}

/** Shows which checkpoints there are to play with, from new to old. */
export function showCheckpoints(steps) {
  const chosen = choice.checkpoint ?? null;
  const listed = chosen === null || steps.includes(chosen) ? steps : [...steps, chosen];
  options("checkpoint", ["", ...listed], (x) => (x === "" ? "newest" : x.toLocaleString("en")));
  select("checkpoint", chosen ?? "");
}

/** Shows which episode can be kept; null if none has ended. */
export function showLastEpisode(facts) {
  byId("keep").hidden = !facts;
  if (facts) byId("keep").title = `Episode ${facts.episode}, return ${facts.episode_return}`;
}

/** Begins; taken is told each choice that is shown. */
export function begin(taken) {
  onChoice = taken;
  byId("pause").addEventListener("click", () => ask({ is_paused: !choice.is_paused }));
  listen("speed-choice", (value) => ({ speed: Number(value) }));
  listen("mode", (value) => ({ mode: value, is_paused: false }));
  listen("checkpoint", (value) => ({ checkpoint: value ? Number(value) : null, is_paused: false }));
}

function listen(id, wanted) {
  byId(id).addEventListener("change", (event) => ask(wanted(event.target.value)));
}

async function ask(wanted) {
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("choice", { method: "POST", headers, body: JSON.stringify(wanted) });
    if (answer.ok) showChoice(await answer.json());
  } catch {
    showChoice(choice); // the stream says that the connection is lost
  }
}

function has(id, value) {
  return [...byId(id).options].some((option) => option.value === String(value));
}

/** Puts options into a select that lacks them; one that is open is left alone. */
function options(id, values, words) {
  const now = [...byId(id).options].map((option) => option.value).join();
  if (now === values.join()) return;
  byId(id).replaceChildren(...values.map((value) => new Option(words(value), value)));
}

function select(id, value) {
  if (byId(id).value !== String(value)) byId(id).value = String(value);
}

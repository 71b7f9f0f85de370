// What the actor thinks of each action: a joystick's positions, or bars.

const POSITIONS = [
  ["UPLEFT", "↖"], ["UP", "↑"], ["UPRIGHT", "↗"],
  ["LEFT", "←"], ["NOOP", "wait"], ["RIGHT", "→"],
  ["DOWNLEFT", "↙"], ["DOWN", "↓"], ["DOWNRIGHT", "↘"],
]; // in rows, as the stick is moved
const byId = (id) => document.getElementById(id);

let shownNames = null;

/** Where on the stick an action is: {index of POSITIONS, hasFire}; null if it is none of a stick. */
function onStick(name) {
  const hasFire = name.endsWith("FIRE");
  const rest = name.replace(/FIRE$/, "") || "NOOP";
  const index = POSITIONS.findIndex(([position]) => position === rest);
  return index < 0 || name === "NOOPFIRE" ? null : { index, hasFire };
}

/** Draws the actor's preferences of a frame and marks what was done. */
export function drawActions(frame) {
  const names = frame.action_names.join("\n");
  if (names !== shownNames) {
    shownNames = names;
    build(frame);
  }
  const isStick = byId("actions").className === "stick";
  const taken = frame.is_discrete ? [frame.action].flat() : []; // one, or one a choice
  byId("action").textContent = taken.map((i) => named(frame.action_names[i])).join(", ") || "–";
  frame.preference.forEach((share, i) => {
    const row = byId("actions").children[i];
    const [, track, number] = row.children;
    const bar = track.firstChild.style;
    bar.left = frame.is_discrete ? "0" : `${50 + 50 * Math.min(share, 0)}%`;
    bar.width = `${(frame.is_discrete ? 100 : 50) * Math.abs(share)}%`;
    if (isStick) bar.height = bar.width;
    number.textContent = frame.is_discrete ? percent(share) : share.toFixed(2);
    row.classList.toggle("chosen", taken.includes(i));
  });
}

function percent(share) {
  return share > 0 && share < 0.005 ? "<1%" : `${(100 * share).toFixed(0)}%`;
}

function build(frame) {
  const list = byId("actions");
  const places = frame.action_names.map(onStick);
  const isStick = frame.is_discrete && places.every((place) => place) && places.length > 2;
  list.className = isStick ? "stick" : "bars";
  list.replaceChildren(...frame.action_names.map((name, i) => row(name, isStick && places[i])));
  const hasFire = isStick && places.some((place) => place.hasFire);
  const stick = hasFire ? "The stick's positions; on the right with the button pressed ●." : "The stick's positions.";
  const range = frame.is_discrete ? "0 to 100%" : "-1 to 1";
  byId("scale").textContent = isStick ? stick : `Bars from ${range}, with a line at each quarter.`;
  byId("acts-title").textContent = frame.is_discrete ? "Action probabilities" : "Actions: the actor's mode";
}

function row(name, place) {
  const made = document.createElement("li");
  const [label, track, number] = ["span", "span", "span"].map((x) => document.createElement(x));
  label.textContent = place ? short(name) : name;
  made.title = name;
  track.className = "track";
  track.append(document.createElement("i"));
  made.append(label, track, number);
  if (place) {
    made.style.gridColumn = (place.index % 3) + (place.hasFire ? 5 : 1);
    made.style.gridRow = Math.floor(place.index / 3) + 1;
  }
  return made;
}

function named(name) {
  const sign = short(name);
  return sign === name || sign === "wait" ? name : `${name} ${sign}`;
}

/** A short word for an action: an arrow for a joystick's position, a dot for its button. */
function short(name) {
  const place = onStick(name);
  if (!place) return name;
  if (name === "FIRE") return "●";
  return `${POSITIONS[place.index][1]}${place.hasFire ? " ●" : ""}`;
}

/** The same for an action of a frame, whatever its kind. */
export function actionWord(frame, action) {
  if (!frame.is_discrete) return action.map((x) => x.toFixed(1)).join(" ");
  if (Array.isArray(action)) return action.map((i) => frame.action_names[i].split(": ")[1]).join(" ");
  return short(frame.action_names[action]).replace(/^action /, "a");
}

// The dream that begins now: its images side by side, their rewards, and the value as a line.

import { actionWord } from "./actions.js";
import { cents } from "./words.js";

export const TILE = 64;
const EASE = 0.02; // of the scale towards the values of the present dream
const GAIN = 2; // of the difference from now
const CUT = 0.01; // share of the pixels that may be darker, or lighter, than what is stretched
const byId = (id) => document.getElementById(id);
const sheet = document.createElement("canvas"); // now and all dreamed images in a row

let newest = null;
let range = { episode: null, low: 0, high: 0 }; // of the values: the scale moves slowly

/** Paints one of several tiles into a canvas. */
export function paintTile(canvas, tiles, index) {
  const context = canvas.getContext("2d");
  context.drawImage(tiles, index * TILE, 0, TILE, TILE, 0, 0, TILE, TILE);
}

/** Draws the strip of a frame; tiles has its reconstruction, imagined what follows. */
export function drawStrip(frame, tiles, imagined) {
  newest = { frame, tiles, imagined };
  const strip = byId("strip");
  const count = frame.value.length;
  if (strip.children.length !== count) {
    strip.replaceChildren(...Array.from({ length: count }, (_, k) => cell(k)));
  }
  fillSheet(tiles, imagined, count);
  for (let k = 0; k < count; k += 1) {
    const [canvas, after, reward] = strip.children[k].children;
    paintTile(canvas, sheet, k);
    canvas.style.opacity = 0.2 + 0.8 * frame.lives_on[k];
    after.lastChild.textContent = k ? actionWord(frame, frame.imagined_action[k - 1]) : "";
    reward.lastChild.textContent = cents(frame.predicted_reward[k]);
    reward.classList.toggle("good", frame.predicted_reward[k] >= 0.05);
    reward.classList.toggle("bad", frame.predicted_reward[k] <= -0.05);
  }
  drawValues(frame);
}

function cell(k) {
  const made = document.createElement("li");
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = TILE;
  canvas.className = "pixels";
  canvas.setAttribute("role", "img");
  const what = k ? `Imagined image ${k} policy steps ahead` : "Reconstruction of the present image";
  canvas.setAttribute("aria-label", what);
  const rows = [k ? `+${k} ` : "now", "R "].map((label) => {
    const row = document.createElement("div");
    row.append(label, document.createElement("b"));
    return row;
  });
  made.append(canvas, ...rows);
  return made;
}

function fillSheet(tiles, imagined, count) {
  if (sheet.width !== count * TILE) [sheet.width, sheet.height] = [count * TILE, TILE];
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(tiles, TILE, 0, TILE, TILE, 0, 0, TILE, TILE);
  context.drawImage(imagined, TILE, 0);
  const how = byId("picture").value;
  if (how === "plain") return;
  const pixels = context.getImageData(0, 0, sheet.width, TILE);
  if (how === "difference") subtractNow(pixels);
  else stretch(pixels.data);
  context.putImageData(pixels, 0, 0);
}

/** Grey where an image is as now, lighter or darker where it differs. */
function subtractNow({ data, width }) {
  const now = new Uint8ClampedArray(TILE * TILE * 4);
  const isNow = (x) => x < TILE * 4;
  for (let y = 0; y < TILE; y += 1) {
    for (let x = 0; x < width * 4; x += 1) {
      const at = y * width * 4 + x;
      const place = y * TILE * 4 + (x % (TILE * 4));
      if (isNow(x)) now[place] = data[at]; // and stays as it is
      else if (x % 4 !== 3) data[at] = 128 + GAIN * (data[at] - now[place]);
    }
  }
}

/** Spreads the brightness of all images over the whole range. */
function stretch(data) {
  const counts = new Uint32Array(256);
  for (let at = 0; at < data.length; at += 4) {
    counts[(data[at] + data[at + 1] + data[at + 2]) / 3 | 0] += 1;
  }
  const cut = (CUT * data.length) / 4;
  const edge = (values) => {
    let seen = 0;
    return values.find((value) => (seen += counts[value]) > cut);
  };
  const values = [...counts.keys()];
  const low = edge(values);
  const high = Math.max(low + 1, edge(values.reverse()));
  for (let at = 0; at < data.length; at += 1) {
    if (at % 4 !== 3) data[at] = (255 * (data[at] - low)) / (high - low);
  }
}

/** The value as a line below the images, which stand in one row where there is room. */
function drawValues(frame) {
  const { value } = frame;
  if (range.episode !== frame.episode) range = { episode: frame.episode, low: value[0], high: value[0] };
  const [low, high] = [Math.min(...value), Math.max(...value)];
  range.low = Math.min(low, range.low + EASE * (low - range.low));
  range.high = Math.max(high, range.high + EASE * (high - range.high));
  const svg = byId("values");
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const space = range.high - range.low || 1;
  const places = value.map((v, k) => [
    ((k + 0.5) / value.length) * width,
    5 + (height - 10) * (1 - (v - range.low) / space),
  ]);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("class", "blue");
  line.setAttribute("points", places.map((place) => place.map((x) => x.toFixed(1)).join(",")).join(" "));
  const dots = places.map(([cx, cy]) => {
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [key, x] of Object.entries({ cx, cy, r: 2.5 })) dot.setAttribute(key, x);
    return dot;
  });
  svg.replaceChildren(line, ...dots);
  byId("values-words").textContent =
    `Value V: ${cents(value[0])} now, ${cents(value.at(-1))} in ${value.length - 1} steps; ` +
    `the line is drawn from ${cents(range.low)} to ${cents(range.high)}.`;
}

byId("picture").addEventListener("change", () => {
  if (newest) drawStrip(newest.frame, newest.tiles, newest.imagined);
});

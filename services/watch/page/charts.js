// Line charts as SVG, with axes, labels and units.

const SPACE = { left: 48, right: 16, top: 22, bottom: 32 };
const RIGHT_AXIS = 46;
const TICK_ROOM = { x: 62, y: 24 }; // pixels from one label to the next
const drawn = new WeakMap(); // by SVG: how to draw it again
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) drawn.get(target)?.();
});

/** A number with up to three significant digits and a suffix of thousands. */
export function short(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const rounded = Number(value.toPrecision(digits)); // 999.7 is 1k
  const size = Math.abs(rounded);
  for (const [unit, suffix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return `${plain(rounded / unit, digits)}${suffix}`;
  }
  return size !== 0 && size < 1e-3 ? value.toExponential(1) : plain(rounded, digits);
}

/** All digits before the point, and as many after it as are left. */
function plain(value, digits) {
  return String(Number(value.toPrecision(digits)));
}

/**
 * Draws curves into an SVG element, and again whenever its size changes.
 *
 * curves: [{points: [[x, y], ...], color, isDots?, isRight?}]; those of the right axis share one
 * scale, all others the left one. A scale that spans more than a factor of 20 above 0 is
 * logarithmic. labels: {x, left, right?}; empty is said where no curve has points. end: where the x
 * axis ends in all charts of a stack, which leave space for a right axis even if they have none.
 */
export function drawChart(svg, curves, labels, empty, end = null) {
  const draw = () => drawNow(svg, curves, labels, empty, end);
  if (!drawn.has(svg)) resized.observe(svg);
  drawn.set(svg, draw);
  draw();
}

function drawNow(svg, curves, labels, empty, end) {
  const box = { width: svg.clientWidth, height: svg.clientHeight };
  if (!box.width) return;
  svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  const shown = curves.filter((curve) => curve.points.length);
  if (!shown.length) {
    svg.replaceChildren(text(box.width / 2, box.height / 2, empty, "middle"));
    return;
  }
  const right = box.width - (labels.right || end !== null ? RIGHT_AXIS : SPACE.right);
  const bottom = box.height - SPACE.bottom;
  const x = scale([0, Math.max(1, end ?? largestX(shown))], [SPACE.left, right], TICK_ROOM.x);
  const parts = [];
  const sides = {};
  for (const isRight of [false, true]) {
    const own = shown.filter((curve) => Boolean(curve.isRight) === isRight);
    if (!own.length) continue;
    sides[isRight] = sideScale(extent(own, 1), [bottom, SPACE.top]);
    parts.push(...sideAxis(sides[isRight], isRight, right, own[0].color, labels, box));
  }
  parts.push(...bottomAxis(x, bottom, box, labels.x));
  for (const curve of shown) parts.push(...marks(curve, x, sides[Boolean(curve.isRight)]));
  svg.replaceChildren(...parts);
}

function marks(curve, x, y) {
  const places = curve.points.map(([px, py]) => [x(px), y(py)]);
  if (curve.isDots || places.length === 1) {
    const r = curve.radius ?? 2;
    return places.map(([cx, cy]) => node("circle", { cx, cy, r, class: curve.color }));
  }
  const points = places.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ");
  return [node("polyline", { points, class: curve.color })];
}

function sideAxis(y, isRight, right, color, labels, box) {
  const parts = [];
  const kind = labels.right ? color : "";
  const place = isRight ? right + 5 : SPACE.left - 5;
  for (const value of y.ticks) {
    const at = y(value);
    if (!isRight) parts.push(line(SPACE.left, at, right, at));
    parts.push(text(place, at + 4, short(value), isRight ? "start" : "end", kind));
  }
  const title = isRight ? labels.right : labels.left;
  return [...parts, text(isRight ? box.width - 2 : 2, 10, title, isRight ? "end" : "start", kind)];
}

function bottomAxis(x, bottom, box, title) {
  const parts = [line(SPACE.left, bottom, x.range[1], bottom)];
  for (const value of x.ticks) {
    parts.push(text(x(value), bottom + 14, short(value), "middle"));
  }
  const middle = (x.range[0] + x.range[1]) / 2;
  return [...parts, text(middle, box.height - 4, title, "middle")];
}

/** Maps a domain to pixels, with round ticks that leave room for their labels. */
function scale(domain, range, room) {
  const place = (value) =>
    range[0] + ((value - domain[0]) / (domain[1] - domain[0])) * (range[1] - range[0]);
  const count = Math.max(2, Math.floor(Math.abs(range[1] - range[0]) / room));
  return Object.assign(place, { range, ticks: ticks(domain, count) });
}

function sideScale([low, high], range) {
  if (!(low > 0 && high > 20 * low)) return scale(padded([low, high]), range, TICK_ROOM.y);
  const linear = scale(padded([Math.log10(low), Math.log10(high)]), range, TICK_ROOM.y);
  const place = (value) => linear(Math.log10(value));
  const shown = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const value of [power, 3 * power]) {
      const hasRoom = !shown.length || place(shown.at(-1)) - place(value) >= TICK_ROOM.y / 2;
      if (low <= value && value <= high && hasRoom) shown.push(value);
    }
  }
  return Object.assign(place, { range, ticks: shown });
}

/** The largest x of any curve, 0 where none has points. */
export function largestX(curves) {
  return Math.max(0, ...curves.flatMap(({ points }) => points.map(([x]) => x)));
}

function extent(curves, column) {
  let [low, high] = [Infinity, -Infinity];
  for (const { points } of curves) {
    for (const point of points) {
      low = Math.min(low, point[column]);
      high = Math.max(high, point[column]);
    }
  }
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function padded([low, high]) {
  const space = 0.06 * (high - low);
  return [low - space, high + space];
}

/** Round numbers within the domain, as many as asked for or one more. */
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) found.push(i * step);
  return found;
}

function node(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function line(x1, y1, x2, y2) {
  return node("line", { x1, y1, x2, y2, class: "grid" });
}

function text(x, y, words, anchor, color = "") {
  const made = node("text", { x, y, "text-anchor": anchor, class: color });
  made.textContent = words;
  return made;
}

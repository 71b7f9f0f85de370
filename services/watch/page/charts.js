// Line charts as SVG, with axes, labels and units.

const SPACE = { left: 54, right: 14, top: 8, bottom: 32 };
const RIGHT_AXIS = 44;

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
 * Draws curves into an SVG element.
 *
 * curves: [{points: [[x, y], ...], color, isDots?, isRight?}]; those of the right axis share one
 * scale, all others the left one. A scale that spans more than a factor of 20 above 0 is
 * logarithmic. labels: {x, left, right?}; empty is said where no curve has points. end: where the x
 * axis ends in all charts of a stack, which leave space for a right axis even if they have none.
 */
export function drawChart(svg, curves, labels, empty, end = null) {
  const box = { width: svg.clientWidth, height: svg.clientHeight };
  if (!box.width) return;
  svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  const drawn = curves.filter((curve) => curve.points.length);
  if (!drawn.length) {
    svg.replaceChildren(text(box.width / 2, box.height / 2, empty, "middle"));
    return;
  }
  const right = box.width - (labels.right || end !== null ? RIGHT_AXIS : SPACE.right);
  const bottom = box.height - (labels.x ? SPACE.bottom : 18);
  const x = scale([0, Math.max(1, end ?? largestX(drawn))], [SPACE.left, right]);
  const parts = [];
  const sides = {};
  for (const isRight of [false, true]) {
    const own = drawn.filter((curve) => Boolean(curve.isRight) === isRight);
    if (!own.length) continue;
    sides[isRight] = sideScale(extent(own, 1), [bottom, SPACE.top]);
    parts.push(...sideAxis(sides[isRight], isRight, right, own[0].color, labels));
  }
  parts.push(...bottomAxis(x, bottom, box, labels.x));
  for (const curve of drawn) parts.push(...marks(curve, x, sides[Boolean(curve.isRight)]));
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

function sideAxis(y, isRight, right, color, labels) {
  const place = isRight ? right + 5 : SPACE.left - 5;
  const title = isRight ? labels.right : labels.left;
  const parts = [];
  for (const value of y.ticks) {
    const at = y(value);
    if (!isRight) parts.push(line(SPACE.left, at, right, at));
    const kind = labels.right ? color : "";
    parts.push(text(place, at + 4, short(value), isRight ? "start" : "end", kind));
  }
  const turned = text(0, 0, title, "middle", labels.right ? color : "");
  const middle = (y.range[0] + y.range[1]) / 2;
  turned.setAttribute("transform", `translate(${isRight ? right + 40 : 10} ${middle}) rotate(-90)`);
  return [...parts, turned];
}

function bottomAxis(x, bottom, box, title) {
  const parts = [line(SPACE.left, bottom, x.range[1], bottom)];
  for (const value of x.ticks) {
    parts.push(text(x(value), bottom + 13, short(value), "middle"));
  }
  const middle = (x.range[0] + x.range[1]) / 2;
  return title ? [...parts, text(middle, box.height - 4, title, "middle")] : parts;
}

function scale(domain, range, count = 5) {
  const place = (value) =>
    range[0] + ((value - domain[0]) / (domain[1] - domain[0])) * (range[1] - range[0]);
  return Object.assign(place, { range, ticks: ticks(domain, count) });
}

function sideScale([low, high], range) {
  if (!(low > 0 && high > 20 * low)) return scale(padded([low, high]), range, 4);
  const linear = scale(padded([Math.log10(low), Math.log10(high)]), range);
  const round = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    round.push(...[1, 3].map((factor) => factor * power));
  }
  const shown = round.filter((value) => low <= value && value <= high);
  return Object.assign((value) => linear(Math.log10(value)), { range, ticks: shown });
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

/** Round numbers within the domain, about as many as asked for. */
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

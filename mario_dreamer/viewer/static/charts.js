// Running curves and the latent grid, drawn on canvases in the page's own colours.

const KEPT = 240; // moments in a curve
const FEWEST = 16; // so that the first ones do not jump about

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function short(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size >= 1000) return number.toFixed(0);
  if (size >= 10) return number.toFixed(1);
  return size >= 0.1 || !number ? number.toFixed(2) : number.toPrecision(2);
}

/** Fit a canvas to its place on the screen; returns its context, scaled to CSS pixels. */
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

export const CHARTS = {
  reward: {
    title: "Reward",
    lines: [["predicted", "predicted_reward", "--guess"], ["real", "reward", "--truth"]],
  },
  value: { title: "Value", lines: [["", "value", "--guess"]], zoomed: true },
  cont: { title: "Continue probability", lines: [["", "cont", "--guess"]], low: 0.9, high: 1 },
  kl: { title: "KL posterior, prior (nats)", lines: [["", "kl", "--truth"]], low: 0 },
  error: {
    title: "Frame MSE",
    lines: [["decoded", "decoded_error", "--guess"], ["predicted", "foreseen_error", "--truth"]],
    low: 0,
  },
};

/** Curves over the last moments; red ground where the state was open loop. */
export class Chart {
  constructor(card, { title, lines, low, high, zoomed }) {
    Object.assign(this, { lines, low, high, zoomed });
    const header = document.createElement("header");
    const heading = document.createElement("h3");
    heading.textContent = title;
    header.append(heading);
    this.shown = lines.map(([name, , tone]) => {
      const now = document.createElement("span");
      now.className = "now";
      const mark = document.createElement("i");
      mark.style.background = `var(${tone})`;
      const text = document.createElement("span");
      now.append(mark, name ? `${name} ` : "", text);
      header.append(now);
      return text;
    });
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${title} over the last ${KEPT} steps`);
    card.replaceChildren(header, this.canvas);
  }

  draw(history) {
    const last = history.at(-1);
    this.lines.forEach(([, key], i) => { this.shown[i].textContent = short(last?.[key]); });
    const sheet = fitted(this.canvas);
    if (!sheet) return;
    const { context, width, height } = sheet;
    const values = this.lines.flatMap(([, key]) => history.map((moment) => moment[key]))
      .filter((value) => Number.isFinite(value));
    const rest = this.zoomed && values.length ? values : [0]; // zero is in view unless zoomed
    let low = Math.min(this.low ?? Math.min(...rest), ...values);
    let high = Math.max(this.high ?? Math.max(...rest), ...values);
    if (high - low < 1e-6) high = low + 1;
    const margin = this.high === undefined ? (high - low) * 0.06 : 0;
    high += margin;
    low -= low < 0 || this.zoomed ? margin : 0;
    const span = Math.max(history.length, FEWEST) - 1; // the curve fills its box from the left
    const x = (i) => width * i / span;
    const y = (value) => 3 + (height - 6) * (high - value) / (high - low);

    context.fillStyle = colour("--prior");
    context.globalAlpha = 0.16;
    const wide = width / span;
    for (let i = 0; i < history.length; i++) { // one rectangle for each stretch: no seams
      if (!history[i].open_loop) continue;
      const from = i;
      while (history[i + 1]?.open_loop) i++;
      context.fillRect(x(from) - wide, 0, x(i) - x(from) + wide, height);
    }
    context.globalAlpha = 1;
    context.lineWidth = 1;
    context.strokeStyle = colour("--line");
    context.beginPath();
    for (const value of [Math.max(0, low), high - margin]) {
      context.moveTo(0, y(value));
      context.lineTo(width, y(value));
    }
    history.forEach((moment, i) => {
      if (moment.opens) { context.moveTo(x(i), 0); context.lineTo(x(i), height); }
    });
    context.stroke();

    for (const [, key, tone] of this.lines) {
      context.strokeStyle = colour(tone);
      context.lineWidth = 1.6;
      context.beginPath();
      let down = false;
      history.forEach((moment, i) => {
        const value = moment[key];
        if (!Number.isFinite(value) || moment.opens) down = false;
        if (!Number.isFinite(value)) return;
        if (down) context.lineTo(x(i), y(value)); else context.moveTo(x(i), y(value));
        down = true;
      });
      context.stroke();
    }
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const label = (text, at) => {
      context.fillStyle = colour("--card");
      context.fillRect(0, at - 7, context.measureText(text).width + 5, 14);
      context.fillStyle = colour("--soft");
      context.fillText(text, 1, at);
    };
    label(short(high - margin), 8);
    if (low) label(short(low), height - 8);
  }
}

/** Remember a moment; forget what no curve shows any more. */
export function remember(history, moment) {
  history.push(moment);
  if (history.length > KEPT) history.splice(0, history.length - KEPT);
}

/** The latent state: a row per categorical, the brighter the more probable; the sampled class is marked. */
export function drawLatent(canvas, picture, classes) {
  const sheet = fitted(canvas);
  if (!sheet || !picture) return;
  const { context, width, height } = sheet;
  const rows = picture.height, columns = picture.width;
  const w = width / columns, h = height / rows;
  const heat = colour("--heat"), mark = colour("--truth");
  context.fillStyle = colour("--line");
  context.globalAlpha = 0.35;
  context.fillRect(0, 0, width, height);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const share = picture.bytes[row * columns + column] / 255;
      if (share < 0.02) continue;
      context.globalAlpha = Math.sqrt(share);
      context.fillStyle = heat;
      context.fillRect(column * w + 0.5, row * h + 0.5, w - 1, h - 1);
    }
    context.globalAlpha = 1;
    context.fillStyle = mark;
    const side = Math.max(2, Math.min(w, h) * 0.45);
    context.fillRect((classes[row] + 0.5) * w - side / 2, (row + 0.5) * h - side / 2, side, side);
  }
}

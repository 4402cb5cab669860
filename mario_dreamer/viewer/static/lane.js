// One agent on the page: its frames, its numbers, its curves.

import { CHARTS, Chart, drawLatent, remember } from "./charts.js";
import { Connection } from "./connection.js";

const INFO = [
  ["x_pos", "x"], ["x_max", "furthest x"], ["time", "clock"], ["score", "score"],
  ["coins", "coins"], ["life", "lives left"],
];

function paint(canvas, { width, height, bytes }) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  if (canvas.sheet?.width !== width || canvas.sheet?.height !== height) {
    canvas.sheet = context.createImageData(width, height);
    canvas.sheet.data.fill(255);
  }
  const pixels = canvas.sheet.data;
  for (let from = 0, to = 0; from < bytes.length; from += 3, to += 4) {
    pixels[to] = bytes[from];
    pixels[to + 1] = bytes[from + 1];
    pixels[to + 2] = bytes[from + 2];
  }
  context.putImageData(canvas.sheet, 0, 0);
}

const steps = (count) => `${count} step${count === 1 ? "" : "s"}`;

/** listener: { hello(lane, message, fresh), frame(lane, frame), error(lane, text, final), state } */
export class Lane {
  constructor(listener) {
    const section = document.querySelector("#lane").content.firstElementChild.cloneNode(true);
    this.section = section;
    this.find = (selector) => section.querySelector(selector);
    this.charts = [...section.querySelectorAll("[data-chart]")]
      .map((card) => new Chart(card, CHARTS[card.dataset.chart]));
    this.history = [];
    this.newest = null;
    this.awaited = false; // a step was asked for and has not come
    this.dead = false;
    this.count = 0;
    this.frame = null;
    this.find("select.agent").addEventListener("change", ({ target }) => {
      listener.choose(this, target.value);
      target.blur();
    });
    this.connection = new Connection({
      hello: (message, fresh) => { this.meet(message); listener.hello(this, message, fresh); },
      frame: (frame) => { this.take(frame); listener.frame(this, frame); },
      error: (text, final) => listener.error(this, text, final),
      state: (name, text) => listener.state(this, name, text),
    });
  }

  send(message) { this.connection.send(message); }

  meet(message) {
    this.hello = message;
    this.find("select.agent").replaceChildren(...message.agents.map(({ id, name }) => {
      return new Option(name, id, false, id === message.agent);
    }));
    this.find(".untrained").hidden = !message.untrained;
    this.bars = message.actions.map((name) => {
      const row = document.createElement("li");
      row.innerHTML = '<span></span><span class="bar"><i></i><b></b></span><span></span>';
      row.firstChild.textContent = name;
      return row;
    });
    this.find(".actions ol").replaceChildren(...this.bars);
    this.buttons(message.buttons);
    this.history = [];
  }

  /** Offer the buttons that the action set has; others are disabled. */
  buttons(names) {
    const digits = names.filter((name) => /^[0-9]$/.test(name));
    this.find(".numbers").replaceChildren(...digits.map((name) => {
      const button = document.createElement("button");
      button.dataset.button = button.textContent = name;
      button.title = this.hello.actions[name];
      return button;
    }));
    this.find(".pad").classList.toggle("numbered", digits.length > 0);
    for (const button of this.section.querySelectorAll(".pad [data-button]")) {
      button.disabled = !names.includes(button.dataset.button);
    }
  }

  take(frame) {
    this.count += 1;
    this.newest = frame;
    const { pictures, probs, mean, std, classes, ...numbers } = frame;
    const before = this.history.at(-1);
    numbers.opens = !before || before.episode !== frame.episode || frame.time < before.time;
    remember(this.history, numbers);
    const waiting = this.frame !== null;
    this.frame = frame;
    if (!waiting) requestAnimationFrame(() => this.draw());
  }

  draw() {
    const frame = this.frame;
    this.frame = null;
    this.last = frame;
    for (const name of ["screen", "observation", "decoded", "foreseen"]) {
      if (frame.pictures[name]) paint(this.find(`.${name} canvas`), frame.pictures[name]);
    }
    this.section.dataset.frames = this.count;
    this.caption(frame);
    this.numbers(frame);
    this.redraw();
  }

  redraw() {
    if (!this.last) return;
    for (const chart of this.charts) chart.draw(this.history);
    drawLatent(this.find(".latent canvas"), this.last.pictures.latent, this.last.classes);
    const { height, width } = this.last.pictures.latent;
    this.find(".latent small").textContent = `${height} × ${width} classes`;
  }

  caption(frame) {
    const say = (name, title, text) => {
      this.find(`.${name} b`).textContent = title;
      this.find(`.${name} figcaption span`).textContent = text;
    };
    const { width, height } = frame.pictures.observation;
    const ended = frame.over ? (frame.terminated ? "the episode has ended" : "stopped: time limit")
      : "";
    this.find(".decoded .frame").dataset.state = frame.open_loop ? "prior" : "posterior";
    if (frame.mode === "dream") {
      say("screen", "Real game, same buttons", ended);
      say("decoded", "Dream", `${steps(frame.open_loop_steps)} since the last real frame`);
      return;
    }
    say("screen", "Game screen", ended);
    say("observation", "Observation", frame.open_loop ? "hidden from the agent"
      : `${width} × ${height} pixels`);
    say("decoded", frame.open_loop ? "Open-loop reconstruction" : "Reconstruction",
      frame.open_loop ? `prior: ${steps(frame.open_loop_steps)} without a frame` : "posterior");
    say("foreseen", "Open-loop prediction", frame.foreseen_age
      ? `of this moment, from ${steps(frame.foreseen_age)} ago` : "the episode begins");
  }

  numbers(frame) {
    const rows = INFO.filter(([key]) => key in frame.env)
      .map(([key, name]) => [name, frame.env[key]]);
    if ("flag" in frame.env) rows.push(["flag", frame.env.flag ? "reached" : "not yet"]);
    rows.push(["return", Math.round(frame.return * 100) / 100], ["agent step", frame.time],
      ["episode", frame.episode + 1]);
    this.find(".info dl").replaceChildren(...rows.map(([name, value]) => {
      const row = document.createElement("div");
      const term = document.createElement("dt"), fact = document.createElement("dd");
      term.textContent = name;
      fact.textContent = value;
      row.append(term, fact);
      return row;
    }));
    this.bars.forEach((row, i) => this.bar(row, i, frame));
    const end = 1 - (frame.cont ?? 1);
    this.find(".end meter").value = end;
    this.find(".end b").textContent =
      `${(end * 100).toFixed(1)} %, reward ${(frame.predicted_reward ?? 0).toFixed(2)}`;
  }

  /** One action: its probability; or, of a continuous one, mean, spread and the value taken. */
  bar(row, i, { probs, mean, std, action }) {
    const fill = row.querySelector("i"), mark = row.querySelector("b");
    const taken = action?.[i];
    if (probs) {
      row.classList.toggle("taken", taken === 1);
      fill.style.width = `${(probs[i] ?? 0) * 100}%`;
      row.lastChild.textContent = `${Math.round((probs[i] ?? 0) * 100)} %`;
      return;
    }
    const low = this.hello.low[i], high = this.hello.high[i];
    const at = (value) => Math.min(100, Math.max(0, 100 * (value - low) / (high - low)));
    const from = at(mean[i] - std[i]), to = at(mean[i] + std[i]);
    row.classList.add("continuous");
    fill.style.left = `${from}%`;
    fill.style.width = `${Math.max(1, to - from)}%`;
    mark.hidden = taken === undefined;
    mark.style.left = `${at(taken ?? mean[i])}%`;
    row.lastChild.textContent = (taken ?? mean[i]).toFixed(2);
  }

  close() {
    this.connection.close();
    this.section.remove();
  }
}

// One agent on the page: its screens, its numbers, its curves.

import { CHARTS, Chart, drawLatent, remember } from "./charts.js";
import { Connection } from "./connection.js";

const FACTS = [
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
      row.innerHTML = '<span></span><span class="bar"><i></i></span><span></span>';
      row.firstChild.textContent = name;
      return row;
    });
    this.find(".actions ol").replaceChildren(...this.bars);
    this.history = [];
  }

  take(frame) {
    this.count += 1;
    this.newest = frame;
    const { pictures, probs, drawn, ...numbers } = frame;
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
    for (const name of ["real", "seen", "mind", "dream"]) {
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
    drawLatent(this.find(".latent canvas"), this.last.pictures.latent, this.last.drawn);
    const { height, width } = this.last.pictures.latent;
    this.find(".latent small").textContent = `${height} × ${width} classes`;
  }

  caption(frame) {
    const say = (name, title, text) => {
      this.find(`.${name} b`).textContent = title;
      this.find(`.${name} figcaption span`).textContent = text;
    };
    const dreaming = frame.mode === "dream", shut = frame.eyes === "shut";
    this.find(".mind .frame").dataset.eyes = frame.eyes;
    this.find(".dream .frame").dataset.eyes = frame.eyes;
    const seen = frame.pictures.seen;
    const ended = frame.over ? (frame.terminated ? "the episode is over" : "stopped: time is up") : "";
    say("real", "the real screen", ended || "");
    say("seen", "what it sees", shut ? "eyes shut: it does not look"
      : `${seen.width} × ${seen.height} pixels`);
    if (dreaming) {
      say("mind", "the dream", `${steps(frame.shut_for)} from the last real frame`);
      say("real", "the real game, by the same buttons", ended);
    } else {
      say("mind", shut ? "what it imagines" : "what it reconstructs",
        shut ? `eyes shut for ${steps(frame.shut_for)}` : "eyes open");
      say("dream", "what it dreamed of now", frame.dream_age
        ? `${steps(frame.dream_age)} ago` : "the episode opens");
    }
  }

  numbers(frame) {
    const rows = FACTS.filter(([key]) => key in frame.world)
      .map(([key, name]) => [name, frame.world[key]]);
    if ("flag" in frame.world) rows.push(["flag", frame.world.flag ? "reached" : "not yet"]);
    rows.push(["return", Math.round(frame.earned * 100) / 100], ["step", frame.time],
      ["episode", frame.episode + 1]);
    this.find(".facts dl").replaceChildren(...rows.map(([name, value]) => {
      const row = document.createElement("div");
      const term = document.createElement("dt"), fact = document.createElement("dd");
      term.textContent = name;
      fact.textContent = value;
      row.append(term, fact);
      return row;
    }));
    frame.probs.forEach((share, i) => {
      const row = this.bars[i];
      if (!row) return;
      row.classList.toggle("taken", i === frame.action);
      row.querySelector("i").style.transform = `scaleX(${share ?? 0})`;
      row.lastChild.textContent = `${Math.round((share ?? 0) * 100)} %`;
    });
    const dead = 1 - (frame.cont ?? 1);
    this.find(".omen meter").value = dead;
    this.find(".omen b").textContent =
      `${(dead * 100).toFixed(1)} %, reward ${(frame.predicted_reward ?? 0).toFixed(2)}`;
  }

  close() {
    this.connection.close();
    this.section.remove();
  }
}

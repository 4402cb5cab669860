// The page: three views on one or two lanes, and the controls that both obey.

import { Controller } from "./keys.js";
import { Lane } from "./lane.js";
import { Recordings } from "./recordings.js";

const by = (id) => document.getElementById(id);
const body = document.body;
const settings = {
  paused: false, openLoop: false, greedy: false, rate: null, horizon: 15, seed: null, stage: null,
};
let view = "watch";
let lanes = [];
let waiting = false; // a dream waits for the first button
let rest = 0; // milliseconds since both compared agents have ended
let beat = null; // timer: compared agents step together

const controller = new Controller((held) => {
  if (view !== "dream" || !lanes.length) return;
  lanes[0].send({ type: "keys", held });
  if (held.length && waiting) {
    setWaiting(false);
    setPaused(false);
  }
});

const recordings = new Recordings(() => view === "dream" && beginDream());

function all(message) { for (const lane of lanes) lane.send(message); }

function notice(text, retry = null) {
  by("notice").hidden = !text;
  by("notice").firstElementChild.textContent = text;
  by("notice-action").hidden = !retry;
  by("notice-action").onclick = () => { notice(""); retry(); };
}

function setPaused(on) {
  settings.paused = on;
  by("pause").setAttribute("aria-pressed", on);
  by("pause").textContent = on ? "Continue" : "Pause";
  body.classList.toggle("paused", on);
  showStatus();
  if (view !== "compare") all({ type: "pause", on });
}

/** What the page does now: the worst of its lanes; a live one may be paused. */
function showStatus() {
  const worst = ["lost", "loading", "live"];
  const [lane] = [...lanes].sort((a, b) => worst.indexOf(a.state) - worst.indexOf(b.state));
  const paused = lane?.state === "live" && settings.paused;
  const status = by("status");
  status.dataset.state = paused ? "paused" : lane?.state ?? "loading";
  status.textContent = !paused ? lane?.told ?? "connecting"
    : waiting ? "waiting for a button" : "paused";
  by("stage").dataset.state = status.dataset.state;
}

/** Compared agents step together: both have shown a moment before either goes on. */
function together() {
  beat = setTimeout(together, 1000 / (settings.rate ?? 15));
  const ready = lanes.length === 2 && lanes.every((lane) => !lane.awaited && !lane.dead);
  if (settings.paused || document.hidden || !ready) return;
  const playing = lanes.filter((lane) => !lane.newest?.over);
  if (playing.length) {
    const time = (lane) => lane.newest?.time ?? 0;
    const behind = Math.min(...playing.map(time));
    for (const lane of playing) if (time(lane) === behind) advance(lane);
  } else if ((rest += 1000 / settings.rate) > 1500) {
    rest = 0;
    restart(lanes[0].hello.seed + 1);
  }
}

function advance(lane) { lane.awaited = true; lane.send({ type: "step" }); }

function setOpenLoop(on) {
  settings.openLoop = on;
  by("open-loop").setAttribute("aria-pressed", on);
  all({ type: "open_loop", on });
}

function setWaiting(on) {
  waiting = on;
  for (const lane of lanes) lane.find(".decoded .frame").classList.toggle("waiting", on);
  showStatus();
}

function setRevealed(on) {
  by("reveal").setAttribute("aria-pressed", on);
  by("reveal").textContent = on ? "Hide the real game" : "Show the real game";
  for (const lane of lanes) lane.find(".screen").classList.toggle("revealed", on);
}

function showRate() { by("rate-shown").textContent = `${by("rate").value}/s`; }
function showHorizon() { by("horizon-shown").textContent = `${by("horizon").value} steps ago`; }

const listener = {
  hello(lane, message, fresh) {
    const first = lane === lanes[0];
    if (first) {
      if (settings.rate === null) {
        settings.rate = Math.round(message.rate);
        by("rate").value = settings.rate;
        showRate();
      }
      by("seed").value = settings.seed ?? message.seed;
      recordings.meet(message.recordings);
      by("stage-field").hidden = !message.stages.length;
      by("stage-choice").replaceChildren(...message.stages.map((stage) => {
        return new Option(stage, stage, false, stage === message.stage);
      }));
    }
    if (!fresh) return;
    // A new simulation on the server: tell it what this page is set to.
    const start = {};
    if (settings.seed !== null) start.seed = settings.seed;
    if (settings.stage !== null && message.stages.length) start.stage = settings.stage;
    const wanted = lane.wanted ?? (first ? null : other(message));
    if (wanted && wanted !== message.agent) {
      lane.send({ type: "agent", id: wanted, ...start });
    } else if (Object.keys(start).length) {
      lane.send({ type: "restart", ...start });
    }
    lane.send({ type: "rate", value: settings.rate });
    if (settings.horizon !== message.horizon) {
      lane.send({ type: "horizon", value: settings.horizon });
    }
    if (settings.greedy) lane.send({ type: "greedy", on: true });
    if (settings.openLoop) lane.send({ type: "open_loop", on: true });
    lane.awaited = false;
    if (settings.paused || view === "compare") lane.send({ type: "pause", on: true });
    if (view === "compare") restart(lanes[0].hello.seed);
    if (document.hidden) lane.send({ type: "hidden", on: true });
    if (view === "dream") beginDream();
  },

  frame(lane) { lane.awaited = false; },

  error(lane, text, final) {
    notice(text, final ? () => lane.connection.open() : null);
  },

  state(lane, name, text) {
    lane.state = name;
    lane.told = text;
    lane.dead = name === "lost";
    showStatus();
  },

  choose(lane, id) {
    lane.wanted = id;
    const message = { type: "agent", id, seed: lane.hello.seed };
    if (lane.hello.stage) message.stage = lane.hello.stage;
    if (view === "compare") restart(lane.hello.seed, lane);
    else if (view === "dream") show("watch");
    lane.send(message);
  },
};

/** The agent to compare with: the one given on the command line, or another of the list. */
function other(message) {
  const ids = message.agents.map(({ id }) => id).filter((id) => id !== lanes[0].hello?.agent);
  return ids.includes("second") ? "second" : ids[0] ?? null;
}

function restart(seed, except = null) {
  settings.seed = seed;
  by("seed").value = seed;
  const message = { type: "restart", seed };
  if (settings.stage) message.stage = settings.stage;
  for (const lane of lanes) {
    if (lane !== except) lane.send(message);
    lane.history = [];
    lane.newest = null;
  }
  if (view === "dream") show("watch");
}

function beginDream() {
  setPaused(true);
  setRevealed(false);
  lanes[0].send(recordings.begin());
  setWaiting(true);
}

function show(name) {
  if (name === view) return;
  const before = view;
  view = body.dataset.view = name;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", tab.dataset.view === name);
  }
  controller.clear();
  if (before === "dream") {
    setWaiting(false);
    lanes[0].send({ type: "dream", on: false });
    setPaused(false);
  }
  if (name === "compare") {
    all({ type: "pause", on: true });
    add();
    together();
  } else if (before === "compare") {
    clearTimeout(beat);
    lanes.pop().close();
    all({ type: "pause", on: settings.paused });
  }
  if (name === "dream") beginDream();
  showStatus();
  requestAnimationFrame(() => lanes.forEach((lane) => lane.redraw()));
}

function add() {
  const lane = new Lane(listener);
  lanes.push(lane);
  by("stage").append(lane.section);
  controller.touch(lane.find(".pad"));
  lane.find(".cover").addEventListener("click", () => setRevealed(true));
}

const revealed = () => by("reveal").getAttribute("aria-pressed") === "true";
const again = () => {
  setPaused(true);
  setWaiting(true);
  lanes[0].send({ type: "again" });
};
const step = () => { setPaused(true); setWaiting(false); lanes.forEach(advance); };
const click = (id, action) => by(id).addEventListener("click", (event) => {
  action();
  if (event.detail) event.currentTarget.blur(); // so that the space bar is free again
});
click("pause", () => { setWaiting(false); setPaused(!settings.paused); });
click("step", step);
click("restart", () => restart(Number(by("seed").value) || 0));
click("open-loop", () => setOpenLoop(!settings.openLoop));
click("again", again);
click("reveal", () => setRevealed(!revealed()));
click("back", () => show("watch"));
click("notice-close", () => notice(""));
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => { show(tab.dataset.view); tab.blur(); });
}
by("rate").addEventListener("input", () => {
  settings.rate = Number(by("rate").value);
  showRate();
  all({ type: "rate", value: settings.rate });
});
by("horizon").addEventListener("input", showHorizon);
by("horizon").addEventListener("change", () => {
  settings.horizon = Number(by("horizon").value);
  all({ type: "horizon", value: settings.horizon });
});
by("greedy").addEventListener("change", ({ target }) => {
  settings.greedy = Boolean(target.value);
  all({ type: "greedy", on: settings.greedy });
  target.blur();
});
by("seed").addEventListener("change", ({ target }) => {
  const seed = Math.min(Math.max(Math.floor(Number(target.value)) || 0, 0), 2 ** 31 - 1);
  restart(seed);
});
by("stage-choice").addEventListener("change", ({ target }) => {
  settings.stage = target.value;
  restart(Number(by("seed").value) || 0);
  target.blur();
});

const SHORTCUTS = {
  " ": () => view !== "dream" && setOpenLoop(!settings.openLoop),
  p: () => { setWaiting(false); setPaused(!settings.paused); },
  n: step,
  r: () => restart(Number(by("seed").value) || 0),
  w: () => view === "dream" && setRevealed(!revealed()),
  Backspace: () => view === "dream" && again(),
  Escape: () => view === "dream" && show("watch"),
};
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select");
  if (typing) return;
  if (view === "dream" && controller.key(event, true)) return event.preventDefault();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === " " && event.target.closest?.("button")) return; // presses that button
  const action = SHORTCUTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});
addEventListener("keyup", (event) => controller.key(event, false));
document.addEventListener("visibilitychange", () => all({ type: "hidden", on: document.hidden }));
addEventListener("resize", () => lanes.forEach((lane) => lane.redraw()));

by("settings").open = !matchMedia("(max-width: 700px)").matches;
showRate();
showHorizon();
add();

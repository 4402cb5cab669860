// The page: three views on one or two lanes, and the controls that both obey.

import { Controller } from "./keys.js";
import { Lane } from "./lane.js";
import { Recordings } from "./recordings.js";

const by = (id) => document.getElementById(id);
const body = document.body;
const settings = {
  paused: false, shut: false, greedy: false, rate: null, horizon: 15, seed: null, stage: null,
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
  by("pause").textContent = on ? "Go on" : "Pause";
  if (view !== "compare") all({ type: "pause", on });
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

function advance(lane) {
  lane.awaited = true;
  lane.send({ type: "step" });
}

function setShut(on) {
  settings.shut = on;
  by("eyes").setAttribute("aria-pressed", on);
  by("eyes").textContent = on ? "Open its eyes" : "Shut its eyes";
  all({ type: "eyes", shut: on });
}

function setWaiting(on) {
  waiting = on;
  for (const lane of lanes) lane.find(".mind .frame").classList.toggle("waiting", on);
}

function setAwake(on) {
  by("wake").setAttribute("aria-pressed", on);
  by("wake").textContent = on ? "Fall asleep" : "Wake up";
  for (const lane of lanes) lane.find(".real").classList.toggle("awake", on);
}

function showRate() { by("rate-shown").textContent = `${by("rate").value}/s`; }
function showHorizon() {
  const k = by("horizon").value;
  by("horizon-shown").textContent = `${k} step${k === "1" ? "" : "s"} ago`;
}

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
    if (settings.shut) lane.send({ type: "eyes", shut: true });
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
    const dead = lanes.find((each) => each !== lane && each.dead);
    lane.dead = name === "lost";
    if (dead && name === "live") return;
    by("status").dataset.state = name;
    by("status").textContent = text;
    by("stage").classList.toggle("lost", lane.dead);
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
  setAwake(false);
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
  requestAnimationFrame(() => lanes.forEach((lane) => lane.redraw()));
}

function add() {
  const lane = new Lane(listener);
  lanes.push(lane);
  by("stage").append(lane.section);
  controller.touch(lane.find(".pad"));
  lane.find(".cover").addEventListener("click", () => setAwake(true));
}

const awake = () => by("wake").getAttribute("aria-pressed") === "true";
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
click("eyes", () => setShut(!settings.shut));
click("again", again);
click("wake", () => setAwake(!awake()));
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
  " ": () => view !== "dream" && setShut(!settings.shut),
  p: () => { setWaiting(false); setPaused(!settings.paused); },
  n: step,
  r: () => restart(Number(by("seed").value) || 0),
  w: () => view === "dream" && setAwake(!awake()),
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

showRate();
showHorizon();
add();

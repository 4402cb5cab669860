// From keyboard and touch to the buttons of a controller.

const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  x: "A", X: "A", z: "B", Z: "B", y: "B", Y: "B", // y: where a German keyboard has z
};

/** Keeps track of what is held; calls `changed(buttons)` with an array each time. */
export class Controller {
  constructor(changed) {
    this.changed = changed;
    this.held = new Map(); // source -> button
    addEventListener("blur", () => this.clear());
  }

  set(source, button) {
    const before = [...new Set(this.held.values())].sort().join();
    if (button) this.held.set(source, button); else this.held.delete(source);
    const now = [...new Set(this.held.values())].sort();
    if (now.join() !== before) this.changed(now);
  }

  clear() {
    if (this.held.size) {
      this.held.clear();
      this.changed([]);
    }
  }

  /** Returns whether the key is one of the controller's. */
  key(event, down) {
    const button = KEYS[event.key] ?? (/^[0-9]$/.test(event.key) ? event.key : null);
    if (!button || event.ctrlKey || event.metaKey || event.altKey) return false;
    this.set(`key ${event.code}`, down ? button : null);
    return true;
  }

  /** Let the buttons inside `pad` be pressed by fingers, several at once, and by a mouse. */
  touch(pad) {
    const press = (element, down) => {
      element.classList.toggle("down", down);
      this.set(`pad ${element.dataset.button}`, down ? element.dataset.button : null);
    };
    const on = (name, act) => pad.addEventListener(name, (event) => {
      const element = event.target.closest("[data-button]");
      if (element && !element.disabled) act(element, event);
    });
    on("pointerdown", (element, event) => { event.preventDefault(); press(element, true); });
    for (const name of ["pointerup", "pointercancel", "pointerout"]) {
      on(name, (element) => press(element, false));
    }
    on("contextmenu", (element, event) => event.preventDefault());
    on("click", (element, event) => { // Enter, or a screen reader
      if (event.detail === 0) { press(element, true); setTimeout(() => press(element, false), 250); }
    });
  }
}

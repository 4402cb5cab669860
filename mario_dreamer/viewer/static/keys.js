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
    for (const element of pad.querySelectorAll("[data-button]")) {
      const source = `pad ${element.dataset.button}`;
      const press = (down) => {
        element.classList.toggle("down", down);
        this.set(source, down ? element.dataset.button : null);
      };
      element.addEventListener("pointerdown", (event) => { event.preventDefault(); press(true); });
      for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
        element.addEventListener(name, () => press(false));
      }
      element.addEventListener("contextmenu", (event) => event.preventDefault());
      element.addEventListener("click", (event) => { // Enter, or a screen reader
        if (event.detail === 0) { press(true); setTimeout(() => press(false), 250); }
      });
    }
  }
}

// Dreams from a recorded episode: which one, and from which of its steps.

const by = (id) => document.getElementById(id);

/** Calls `chosen()` whenever the person asks for another start of the dream. */
export class Recordings {
  constructor(chosen) {
    this.list = [];
    by("from").addEventListener("change", ({ target }) => {
      this.show();
      chosen();
      target.blur();
    });
    by("at").addEventListener("input", () => this.label());
    by("at").addEventListener("change", ({ target }) => {
      chosen();
      target.blur(); // the arrow keys belong to the dream again
    });
  }

  /** Offer what the server has; keep what was chosen. */
  meet(list) {
    const before = by("from").value;
    this.list = list;
    by("from").replaceChildren(new Option("this moment", ""),
      ...list.map(({ id, name }) => new Option(name, id)));
    if (list.some(({ id }) => id === before)) by("from").value = before;
    by("from-field").hidden = !list.length;
    if (by("from").value !== before) this.show();
    else if (this.chosen) this.label(); // the moment asked for is there
  }

  get chosen() { return this.list.find(({ id }) => id === by("from").value); }

  /** The message that begins the dream. A late step takes a while to reach. */
  begin() {
    if (!this.chosen) return { type: "dream", on: true };
    by("at-shown").textContent = "loading";
    return { type: "recording", id: this.chosen.id, position: Number(by("at").value) };
  }

  show() {
    by("at-field").hidden = !this.chosen;
    if (!this.chosen) return;
    by("at").max = this.chosen.length - 1;
    by("at").value = Math.floor(this.chosen.length / 2);
    this.label();
  }

  label() { by("at-shown").textContent = `step ${by("at").value} of ${this.chosen.length}`; }
}

// A person's behaviours as points: near each other where the method sees them alike.

import * as api from "./api.js";
import { opened } from "./behaviour.js";
import { fill, h, newId, svg } from "./dom.js";
import { trying } from "./faults.js";
import { date, line, percent } from "./format.js";
import { state } from "./state.js";

const [WIDE, HIGH, EDGE] = [640, 400, 18];
const KINDS = 8; // colours there are; what is rarer shares the last one
const STEPS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function mapView(user) {
  const notice = h("div");
  const place = h("div");
  const encoders = new Map(state.models.filter((m) => m.personaplug.encoder).map((m) => [m.personaplug.encoder, m]).reverse());
  const view = h("select", { "aria-label": "Seen by", on: { change: load } },
    [...encoders].map(([encoder, m]) => h("option", { value: m.id }, encoder)));
  const colour = h("select", { "aria-label": "Coloured by" });
  const bar = h("div", { class: "choices" },
    h("span", { class: "words" }, "Coloured by ", colour, encoders.size > 1 ? [" as seen by ", view] : null));

  let asked = 0; // how often: only what was asked for last is shown

  async function load() {
    const mine = ++asked;
    fill(place, h("p", { class: "note" }, "Reading …"));
    await trying(notice, async () => {
      try {
        const found = await api.map(user, view.value);
        if (mine !== asked) return;
        if (found.data.length < 3) fill(place, h("p", { class: "empty" }, "Three texts are the least that make a map."));
        else draw(found);
      } catch (error) {
        if (mine !== asked) return;
        fill(place);
        throw error;
      }
    });
  }

  function draw(found) {
    const ways = labelsOf(found.data);
    const before = colour.value;
    fill(colour, [...ways.keys()].map((word) => h("option", { value: word }, word)));
    if (ways.has(before)) colour.value = before;
    const chart = new Chart(user, found);
    const legend = h("div", { class: "legend" });
    colour.onchange = () => fill(legend, chart.colour(ways.get(colour.value)));
    colour.onchange();
    const shown = found.explained[0] + found.explained[1];
    fill(place, chart.element, legend, chart.readout, h("p", { class: "note" },
      `Each point is one text, near others that ${state.model(found.model)?.personaplug.encoder || found.model} sees as alike; the two directions hold ${percent(shown)} of their differences. Arrow keys move between points, Enter opens one.`));
  }

  load();
  return h("div", { class: "map" }, bar, notice, place);
}

/** What points can be coloured by: time, and whatever says one of a few words. Each is a list, or null for time. */
function labelsOf(data) {
  const ways = new Map();
  if (new Set(data.map((b) => b.at)).size > 1) ways.set("time", null);
  const candidates = new Map([["rating", data.map((b) => b.rating)], ["what they wrote", data.map((b) => b.output)]]);
  for (const name of new Set(data.flatMap((b) => Object.keys(b.fields)))) candidates.set(name, data.map((b) => b.fields[name] ?? null));
  for (const [name, values] of candidates) {
    const kinds = new Set(values.filter((v) => v !== null));
    if (kinds.size > 1 && kinds.size <= Math.min(24, data.length / 2)) ways.set(name, values);
  }
  if (ways.size === 0) ways.set("nothing", data.map(() => "text"));
  return ways;
}

function range(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return { middle: (least + most) / 2, size: Math.max(1e-6, most - least) };
}

class Chart {
  #points;
  #at = -1;
  #wanted = 0; // texts so far: only the one wanted last is opened

  constructor(user, found) {
    this.user = user;
    this.data = found.data;
    const [x, y] = ["x", "y"].map((axis) => range(found.data.map((b) => b[axis])));
    const up = Math.min((WIDE - 2 * EDGE) / x.size, (HIGH - 2 * EDGE) / y.size);
    const across = Math.min((WIDE - 2 * EDGE) / x.size, 1.6 * up); // a little wider than high reads better
    this.spots = found.data.map((b) => [WIDE / 2 + across * (b.x - x.middle), HIGH / 2 - up * (b.y - y.middle)]);
    this.#points = found.data.map((b, i) => svg("circle", {
      cx: this.spots[i][0].toFixed(1), cy: this.spots[i][1].toFixed(1), r: 5.5, role: "option", id: newId("point"),
      "aria-selected": "false", "aria-label": `${date(b.at)}: ${line(b.output || b.input, 90)}`,
    }));
    this.ring = svg("circle", { class: "ring", r: 10, cx: -50, cy: -50, "aria-hidden": "true" });
    this.element = svg("svg", {
      class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, tabindex: 0, role: "listbox", "aria-label": `Map of ${user}'s texts`,
      on: {
        pointermove: (e) => this.#point(this.#nearest(e)),
        click: (e) => this.#open(this.#nearest(e)),
        keydown: (e) => this.#key(e),
        focus: () => this.#at < 0 && this.element.matches(":focus-visible") && this.#point(this.#points.length - 1),
      },
    }, this.#points, this.ring);
    this.readout = h("div", { class: "readout" }, h("p", { class: "soft" }, "Point at a text to read it, click to open it."));
  }

  /** Colours by labels (null: by time); returns the legend. */
  colour(labels) {
    if (labels === null) return this.#byTime();
    const counts = new Map();
    for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    const kinds = [...counts].sort((a, b) => b[1] - a[1]).map(([label]) => label);
    const kind = (label) => Math.min(kinds.indexOf(label), KINDS - 1);
    for (const [i, point] of this.#points.entries()) point.style.fill = `var(--kind-${kind(labels[i])})`;
    const name = (label) => (label === null ? "none" : line(String(label), 30));
    const shown = kinds.slice(0, kinds.length > KINDS ? KINDS - 1 : KINDS);
    return [
      shown.map((label, i) => h("span", { class: "kind" }, h("i", { style: { background: `var(--kind-${i})` } }), name(label))),
      kinds.length > KINDS && h("span", { class: "kind" }, h("i", { style: { background: `var(--kind-${KINDS - 1})` } }), "others"),
    ];
  }

  #byTime() {
    // By order, not by the clock: people write in bursts.
    const days = [...new Set(this.data.map((b) => b.at).filter((at) => at !== null))].sort((a, b) => a - b);
    for (const [i, point] of this.#points.entries()) {
      const share = Math.round((100 * Math.max(0, days.indexOf(this.data[i].at))) / (days.length - 1));
      point.style.fill = `color-mix(in oklab, var(--late) ${share}%, var(--early))`;
    }
    return [h("span", {}, date(days[0])), h("i", { class: "ramp" }), h("span", {}, date(days.at(-1)))];
  }

  #nearest(event) {
    const box = this.element.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDE;
    const y = ((event.clientY - box.top) / box.height) * HIGH;
    const far = this.spots.map(([px, py]) => Math.hypot(px - x, py - y));
    return far.indexOf(Math.min(...far));
  }

  #point(index) {
    if (index === this.#at) return;
    this.#points[this.#at]?.setAttribute("aria-selected", "false");
    this.#at = index;
    this.#points[index].setAttribute("aria-selected", "true");
    this.element.setAttribute("aria-activedescendant", this.#points[index].id);
    this.ring.setAttribute("cx", this.spots[index][0]);
    this.ring.setAttribute("cy", this.spots[index][1]);
    if (this.readout.querySelector(".opened")) return; // reading one: pointing at others leaves it
    const b = this.data[index];
    fill(this.readout, h("p", {}, h("small", {}, date(b.at)), b.input && h("span", { class: "given" }, line(b.input, 120)), h("span", {}, line(b.output, 160))));
  }

  #key(event) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#open(this.#at);
      return;
    }
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = this.spots[Math.max(0, this.#at)];
    let [best, least] = [-1, Infinity];
    for (const [i, [px, py]] of this.spots.entries()) {
      const ahead = (px - x) * step[0] + (py - y) * step[1];
      const aside = Math.abs((px - x) * step[1]) + Math.abs((py - y) * step[0]);
      if (i !== this.#at && ahead > 0 && ahead + 2 * aside < least) [best, least] = [i, ahead + 2 * aside];
    }
    if (best >= 0) {
      fill(this.readout);
      this.#point(best);
    }
  }

  async #open(index) {
    if (index < 0) return;
    fill(this.readout);
    this.#at = -1;
    this.#point(index);
    const mine = ++this.#wanted;
    const notice = h("div");
    await trying(notice, async () => {
      const whole = await api.behaviour(this.user, this.data[index].id);
      if (mine !== this.#wanted) return;
      fill(this.readout, opened(this.user, whole, (now) => this.#points[index].classList.toggle("gone", now === null)));
    });
    if (mine === this.#wanted && notice.childElementCount) fill(this.readout, notice);
  }
}

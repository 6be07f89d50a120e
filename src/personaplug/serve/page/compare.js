// The view of comparisons: one request across people or across methods, side by side.

import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { line, percent } from "./format.js";
import { modelName, modelPicker, userPicker } from "./picker.js";
import { state } from "./state.js";
import { AnswerBox } from "./stream.js";
import { welcome } from "./welcome.js";

const MOST = 8; // answers side by side
const AT_FIRST = 4;

export function compareView(panel) {
  const question = h("textarea", {
    rows: 1, required: true, placeholder: "Ask everybody the same", "aria-label": "Your question",
    on: { keydown: (e) => { if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); run(); } } },
  });
  const results = h("div", { class: "columns" });
  const room = h("div", { class: "room" });
  const model = modelPicker("Method", { personal: true });
  const chips = h("div", { class: "chips", role: "group" });
  const one = h("span", { class: "words" });
  const across = ["people", "methods"].map((word, i) =>
    h("label", {}, h("input", { type: "radio", name: "across", value: word, checked: i === 0, on: { change: choices } }), word));
  const form = h("form", { class: "compare-form", on: { submit: (e) => { e.preventDefault(); run(); } } },
    h("div", { class: "composer" }, question, h("button", { class: "main" }, "Compare")),
    h("fieldset", { class: "segments" }, h("legend", {}, "Across"), across),
    one, chips);
  const user = userPicker("Answer as");

  const byPeople = () => form.querySelector('input[name="across"]:checked').value === "people";

  function choices() {
    const people = byPeople();
    const all = people ? state.users.map((u) => u.id) : state.models.map((m) => m.id);
    const before = new Set([...chips.querySelectorAll("input:checked")].map((i) => i.value));
    const kept = all.filter((id) => before.has(id));
    const on = new Set(kept.length ? kept : all.slice(0, AT_FIRST));
    fill(one, people ? ["with ", model] : ["as ", user]);
    chips.setAttribute("aria-label", people ? "People" : "Methods");
    fill(chips, all.slice(0, 60).map((id) => h("label", { class: "chip" },
      h("input", { type: "checkbox", value: id, checked: on.has(id), on: { change: limit } }), people ? id : modelName(id))));
    limit();
  }

  /** So many stand side by side; more have to wait until one is let go. */
  function limit() {
    const boxes = [...chips.querySelectorAll("input")];
    const full = boxes.filter((b) => b.checked).length >= MOST;
    for (const box of boxes) box.disabled = full && !box.checked;
  }

  function run() {
    const text = question.value.trim();
    const chosen = [...chips.querySelectorAll("input:checked")].map((i) => i.value);
    if (!text || !chosen.length) return;
    const people = byPeople();
    fill(results, chosen.map((id) => {
      const asked = people ? { user: id, model: model.value } : { user: state.user, model: id };
      const box = new AnswerBox([people ? id : modelName(id)], "mine");
      box.onRetry = () => answerOne(box, asked, text);
      answerOne(box, asked, text);
      return box.element;
    }));
  }

  async function answerOne(box, { user, model: id }, text) {
    const personal = state.model(id)?.personaplug.personal;
    const body = { model: id, messages: [{ role: "user", content: text }] };
    const done = await box.run(personal && user ? { ...body, user, personaplug: { behaviors: 3 } } : body);
    const carriers = done?.block?.behaviors ?? [];
    if (carriers.length) box.addFoot(await top(user, carriers));
  }

  function draw() {
    if (state.users.length === 0) fill(room, welcome());
    else if (!form.isConnected) fill(room, form, results);
    choices();
  }

  state.addEventListener("users", draw);
  fill(panel, room);
  draw();
}

/** The few behaviours that weighed most, in small. */
async function top(user, carriers) {
  const texts = await Promise.all(carriers.map((c) => api.behaviour(user, c.id).then((b) => b.output || b.input, () => "")));
  return h("ol", { class: "top-bars", "aria-label": "What weighed most" }, carriers.map((c, i) =>
    h("li", {}, h("b", {}, percent(c.weight)), h("span", {}, line(texts[i], 70)))));
}

// The view of chats: choose a user and a method, ask, see the answer beside the one without the persona.

import * as api from "./api.js";
import { button, field, fill, h } from "./dom.js";
import { trying } from "./faults.js";
import { line } from "./format.js";
import { modelPicker, userPicker } from "./picker.js";
import { state } from "./state.js";
import { Turn } from "./turn.js";
import { welcome } from "./welcome.js";

const GENERIC = ["How was your day?", "What are you doing this weekend?", "Can you recommend something?"];

export function chatView(panel) {
  const turns = h("div", { class: "turns" });
  const ideas = h("div", { class: "ideas" });
  const notice = h("div");
  const question = h("textarea", {
    rows: 1, required: true, placeholder: "Ask something", "aria-label": "Your question",
    on: { input: grow, keydown: (e) => { if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); ask(); } } },
  });
  const model = modelPicker("Method", { personal: true });
  const settings = new Settings();
  const over = button("Start over", () => { done.length = 0; draw(); question.focus(); }, { class: "quiet" });
  const done = []; // the turns of this conversation
  const bar = h("div", { class: "choices" },
    h("span", { class: "words" }, "Answer as ", userPicker("Answer as"), " with ", model), over, settings.element);
  const composer = h("form", { class: "composer", on: { submit: (e) => { e.preventDefault(); ask(); } } },
    question, h("button", { class: "main" }, "Ask"));
  const room = h("div", { class: "room" });

  function grow() {
    question.style.height = "auto";
    question.style.height = `${question.scrollHeight + 2}px`;
  }

  async function ask() {
    const text = question.value.trim();
    if (!text || !model.value) return;
    question.value = "";
    grow();
    const before = { mine: [], bare: [] };
    const follows = !state.model(model.value)?.personaplug.options.length; // a label is asked for anew each time
    for (const turn of follows ? done : []) {
      for (const side of ["mine", "bare"]) {
        if (turn.replies[side] === null) continue;
        before[side].push({ role: "user", content: turn.asked.question }, { role: "assistant", content: turn.replies[side] });
      }
    }
    const turn = new Turn({ user: state.user, model: model.value, question: text, settings: settings.values(), before });
    done.push(turn);
    fill(ideas);
    over.hidden = false;
    turns.append(turn.element);
    turn.element.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
    await turn.run();
  }

  /** A conversation belongs to one user: with another one it starts over. */
  function draw() {
    done.length = 0;
    fill(turns);
    over.hidden = true;
    if (state.users.length === 0) {
      fill(room, welcome());
      return;
    }
    fill(room, bar, notice, turns, ideas, composer);
    suggest();
  }

  /** What the user was last asked makes good questions. */
  async function suggest() {
    fill(ideas);
    const user = state.user;
    await trying(notice, async () => {
      const found = user === null ? [] : (await api.history(user, null, 40)).data;
      const asked = [...new Set(found.map((b) => b.input.trim()))].filter((t) => t.length > 7 && t.length < 90 && !t.includes("\n"));
      if (user !== state.user || done.length) return;
      const some = [...asked.filter((t) => t.endsWith("?")), ...GENERIC].slice(0, 3);
      fill(ideas,
        h("p", { class: "note" }, `Ask anything; the answer comes as ${user} would write it, beside what the model says to anybody. For example:`),
        some.map((text) => button(line(text, 90), () => { question.value = text; ask(); }, { class: "chip" })));
    });
  }

  let shown = null;
  const redraw = () => {
    const now = `${state.users.length > 0} ${state.user}`;
    if (now !== shown) draw();
    shown = now;
  };
  state.addEventListener("users", redraw);
  state.addEventListener("user", redraw);
  model.addEventListener("change", draw);
  fill(panel, room);
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** How answers are drawn; what is left empty stands as the method was trained. */
class Settings {
  #temperature = h("input", { type: "number", min: 0, max: 2, step: 0.1, placeholder: "as trained" });
  #tokens = h("input", { type: "number", min: 1, max: 4096, step: 1, placeholder: "as trained" });

  element = h("details", { class: "settings" },
    h("summary", {}, "Settings"),
    h("div", { class: "pop" },
      field("Temperature", this.#temperature, "0 is always the likeliest word."),
      field("Longest answer", this.#tokens, "In tokens.")));

  values() {
    const given = {};
    if (this.#temperature.value) given.temperature = Number(this.#temperature.value);
    if (this.#tokens.value) given.max_tokens = Number(this.#tokens.value);
    return given;
  }
}

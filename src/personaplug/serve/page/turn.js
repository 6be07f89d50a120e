// One question with its answers: as the user, and beside it as nobody.

import * as api from "./api.js";
import { button, field, fill, h, newId, say, svg } from "./dom.js";
import { carried } from "./carried.js";
import { trying } from "./faults.js";
import { modelName } from "./picker.js";
import { state } from "./state.js";
import { AnswerBox } from "./stream.js";

const BARS = 6;

export class Turn {
  /**
   * @param asked `{user, model, question, settings, before}`; `before` holds the messages so far of the user's and of
   *   nobody's conversation, as `{mine, bare}`.
   */
  constructor(asked) {
    this.asked = asked;
    this.replies = { mine: null, bare: null };
    const bare = state.bare(asked.model);
    const whose = asked.user ? `as ${asked.user}` : "as nobody";
    this.mine = new AnswerBox([whose, h("span", { class: "tag" }, modelName(asked.model))], "mine");
    this.bare = bare && new AnswerBox(["without persona", h("span", { class: "tag" }, modelName(bare.id))], "bare");
    this.bareModel = bare?.id;
    this.weights = h("section", { class: "carried", hidden: true });
    this.earlier = h("div");
    const id = newId("asked");
    this.element = h("article", { class: "turn", "aria-labelledby": id },
      h("h3", { class: "asked", id }, asked.question),
      h("div", { class: "pair" }, this.mine.element, this.bare?.element),
      this.earlier,
      this.weights);
    this.mine.onRetry = () => this.run();
    if (this.bare) this.bare.onRetry = () => this.#ask(this.bare, "bare", this.bareModel, null);
  }

  /** Asks, beside each other. */
  async run() {
    say("Answering …");
    const [mine] = await Promise.all([
      this.#ask(this.mine, "mine", this.asked.model, this.asked.user),
      this.bare && this.#ask(this.bare, "bare", this.bareModel, null),
    ]);
    if (mine === null) return;
    say(`Answer: ${mine.text}`);
    if (this.asked.user && state.model(this.asked.model)?.personaplug.personal) {
      this.mine.addFoot(this.#thumbs(mine));
      await this.#explain();
    }
  }

  /** Asks the same again as the user; what was answered before stays in sight. */
  async again() {
    const before = this.replies.mine;
    if (before) {
      fill(this.earlier, h("p", { class: "earlier" }, h("b", {}, "Before the change: "), before));
    }
    this.element.scrollIntoView({ block: "nearest" });
    say("Asking again …");
    const mine = await this.#ask(this.mine, "mine", this.asked.model, this.asked.user);
    if (mine === null) return;
    if (before === mine.text) fill(this.earlier, h("p", { class: "earlier" }, "The answer is the same as before the change."));
    say(`Answer: ${mine.text}`);
    this.mine.addFoot(this.#thumbs(mine));
    await this.#explain();
  }

  #messages(side) {
    return [...this.asked.before[side], { role: "user", content: this.asked.question }];
  }

  async #ask(box, side, model, user) {
    const body = { model, messages: this.#messages(side), ...this.asked.settings };
    const done = await box.run(user ? { ...body, user, personaplug: { behaviors: 0 } } : body);
    if (done) this.replies[side] = done.text;
    return done;
  }

  async #explain() {
    const place = h("div");
    const heading = h("h4", {}, "What carried the persona");
    fill(this.weights, heading, place);
    this.weights.hidden = false;
    await trying(place, async () => {
      const found = await api.explain(this.asked.user, this.asked.model, this.#messages("mine"), BARS);
      if (found.data.length) fill(place, carried(this.asked.user, found, () => this.again()));
      else fill(place, h("p", { class: "note" }, found.total === 0 ? "Nothing: there is no history, or this method does not say." : ""));
    });
  }

  #thumbs(done) {
    const { user, question } = this.asked;
    const said = { id: done.id, input: question, output: done.text };
    const place = h("div", { class: "judged" });
    const row = h("div", { class: "thumbs", role: "group", "aria-label": "How was this answer?" });
    const send = (more, words) => trying(place, async () => {
      await api.feedback(user, { ...said, ...more });
      fill(row);
      fill(place, h("p", { class: "note" }, words));
      say(words);
      await state.touched(user);
    });
    const better = () => {
      const text = h("textarea", { rows: 2, required: true });
      fill(place, h("form", { on: { submit: (e) => { e.preventDefault(); send({ preferred: text.value }, "Kept as what they would say."); } } },
        field(`What would ${user} rather read?`, text),
        h("div", { class: "row" },
          h("button", { class: "main small" }, "Keep this"),
          button("Just a thumb down", () => send({ rating: 0 }, "Kept as a bad answer."), { class: "small" }))));
      text.focus();
    };
    row.append(
      button(thumb(false), () => send({ rating: 1 }, "Kept as a good answer."), { class: "quiet icon", "aria-label": "Good answer" }),
      button(thumb(true), better, { class: "quiet icon", "aria-label": "Bad answer" }));
    return h("div", { class: "judge" }, row, place);
  }
}

const thumb = (down) =>
  svg("svg", { viewBox: "0 0 24 24", width: 17, height: 17, "aria-hidden": "true", class: down ? "down" : null },
    svg("path", {
      d: "M7 11v9H4v-9zm0 0 4-8c1.5 0 2.6 1 2.6 2.6V9h5.2a2 2 0 0 1 2 2.3l-1.1 7A2 2 0 0 1 17.7 20H7",
      fill: "none", stroke: "currentColor", "stroke-width": 1.7, "stroke-linejoin": "round",
    }));

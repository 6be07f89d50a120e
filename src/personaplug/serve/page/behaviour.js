// One behaviour, opened: what it says, and correcting or removing it.

import * as api from "./api.js";
import { button, field, fill, h, say } from "./dom.js";
import { trying } from "./faults.js";
import { fromLocal, moment, toLocal } from "./format.js";
import { state } from "./state.js";

/**
 * A behaviour with its actions.
 *
 * @param user whose it is.
 * @param behaviour as the server gives it.
 * @param changed called with the new behaviour, or null when it is gone.
 * @param more further buttons.
 */
export function opened(user, behaviour, changed, more = []) {
  const box = h("div", { class: "opened" });
  const notice = h("div");

  const show = () => {
    fill(
      box,
      h("dl", { class: "said" },
        behaviour.input && [h("dt", {}, "Given"), h("dd", { class: "given" }, behaviour.input)],
        h("dt", {}, "Wrote"), h("dd", {}, behaviour.output || "–"),
        h("dt", {}, "When"), h("dd", { class: "soft" }, moment(behaviour.at)),
        behaviour.rating !== null && [h("dt", {}, "Rating"), h("dd", { class: "soft" }, String(behaviour.rating))],
        Object.entries(behaviour.fields).map(([name, value]) => [h("dt", {}, name), h("dd", { class: "soft" }, value)])),
      h("div", { class: "row" },
        button("Correct", edit, { class: "small" }),
        button("Remove", confirm, { class: "small" }),
        more),
      notice);
  };

  const edit = () => {
    const input = h("textarea", { rows: 2 });
    const output = h("textarea", { rows: 3, required: true });
    const at = h("input", { type: "datetime-local", step: 1 });
    [input.value, output.value, at.value] = [behaviour.input, behaviour.output, toLocal(behaviour.at)];
    const save = async (event) => {
      event.preventDefault();
      const when = at.value === toLocal(behaviour.at) ? behaviour.at : fromLocal(at.value);
      const content = { input: input.value, output: output.value, at: when, rating: behaviour.rating, fields: behaviour.fields };
      await trying(notice, async () => {
        behaviour = await api.correct(user, behaviour.id, content);
        show();
        box.querySelector("button").focus();
        say("Corrected.");
        changed(behaviour);
        await state.touched(user);
      });
    };
    fill(
      box,
      h("form", { on: { submit: save }, "aria-label": "Correct this behaviour" },
        field("Given", input), field("Wrote", output), field("When", at),
        h("div", { class: "row" },
          h("button", { class: "main small" }, "Save"),
          button("Cancel", () => { show(); box.querySelector("button").focus(); }, { class: "small" }))),
      notice);
    output.focus();
  };

  const confirm = () => {
    const row = box.querySelector(".row");
    const keep = button("Keep it", () => { show(); box.querySelector("button").focus(); }, { class: "small" });
    fill(
      row,
      h("span", {}, "No byte of it will be left."),
      button("Remove for good", () => trying(notice, async () => {
        await api.remove(user, behaviour.id);
        fill(box, h("p", { class: "soft" }, "Removed."));
        say("Removed.");
        changed(null);
        await state.touched(user);
      }), { class: "small danger" }),
      keep);
    keep.focus();
  };

  show();
  return box;
}

// Chooses a user or a model.

import { h } from "./dom.js";
import { some } from "./format.js";
import { backboneOf, methodOf, state } from "./state.js";

const OTHER = "\u0000other";

/** A select of people that follows the shared choice; with very many of them, one can be named by hand. */
export function userPicker(label) {
  const select = h("select", { "aria-label": label, on: { change: () => chosen() } });
  const named = h("input", {
    type: "text", hidden: true, placeholder: "their name", "aria-label": "A user's name", autocomplete: "off", spellcheck: "false",
    on: { change: () => named.value && state.choose(named.value) },
  });

  const chosen = () => {
    named.hidden = select.value !== OTHER;
    if (named.hidden) state.choose(select.value);
    else named.focus();
  };
  const draw = () => {
    const listed = state.users.some((u) => u.id === state.user);
    select.replaceChildren(
      ...state.users.map((u) => h("option", { value: u.id }, u.id)),
      ...(state.user !== null && !listed ? [h("option", { value: state.user }, state.user)] : []),
      ...(state.more ? [h("option", { value: OTHER }, "someone else …")] : []));
    select.value = state.user ?? "";
  };
  state.addEventListener("users", draw);
  state.addEventListener("user", draw);
  draw();
  return h("span", { class: "picker" }, select, named);
}

/** A select of models; personal ones first. */
export function modelPicker(label, { personal = false } = {}) {
  const select = h("select", { "aria-label": label });
  const draw = () => {
    const before = select.value;
    const found = [...state.models].sort((a, b) => b.personaplug.personal - a.personaplug.personal);
    const shown = personal && found.some((m) => m.personaplug.personal) ? found.filter((m) => m.personaplug.personal) : found;
    select.replaceChildren(...shown.map((m) => h("option", { value: m.id }, modelName(m.id))));
    if (shown.some((m) => m.id === before)) select.value = before;
  };
  state.addEventListener("users", draw);
  draw();
  return select;
}

/** A model's name as people read it: the method first, the backbone where there are several. */
export function modelName(id) {
  const backbones = new Set(state.models.map((m) => backboneOf(m.id)));
  return backbones.size > 1 ? `${methodOf(id)} · ${backboneOf(id)}` : methodOf(id);
}

export const userTitle = (u) => `${u.id}, ${some(u.behaviors, "text")}`;

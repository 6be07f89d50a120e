// Shows what went wrong in one line, with the way out beside it.

import { button, fill, h } from "./dom.js";

/** An error as one line; `again` is what its button does. */
export function fault(error, again = null) {
  const text = error.message.endsWith(".") ? error.message : `${error.message}.`;
  const way = error.status === 401
    ? button("Enter a key", () => document.dispatchEvent(new Event("need-key")), { class: "small" })
    : again && button("Try again", again, { class: "small" });
  return h("p", { class: "fault", role: "alert" }, h("span", {}, capital(text)), way);
}

/** Does something; where it fails, the place tells of it. Returns whether it worked. */
export async function trying(place, work) {
  try {
    fill(place);
    await work();
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    fill(place, fault(error, () => trying(place, work)));
    return false;
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

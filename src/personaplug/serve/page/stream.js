// One answer in a box: it grows as it comes, can be stopped, and says what it cost.

import * as api from "./api.js";
import { button, fill, h } from "./dom.js";
import { fault } from "./faults.js";
import { some, span } from "./format.js";

/**
 * A box that an answer streams into.
 *
 * @param title what stands above it.
 * @param kind a class: "mine" or "bare".
 */
export class AnswerBox {
  #text = h("p", { class: "answer-text" });
  #foot = h("div", { class: "answer-foot" });
  #stop = null;

  constructor(title, kind) {
    this.element = h("section", { class: `answer ${kind}` }, h("h4", {}, title), this.#text, this.#foot);
  }

  /** Streams an answer; returns what `api.answer` does, or null where it failed or was stopped. */
  async run(body) {
    this.#stop?.abort();
    const stop = (this.#stop = new AbortController());
    fill(this.#text);
    fill(this.#foot, button("Stop", () => stop.abort(), { class: "small" }));
    this.element.classList.add("busy");
    this.#text.setAttribute("aria-busy", "true");
    const current = () => this.#stop === stop; // else the same was asked anew, and this one has nothing more to say
    const began = performance.now();
    let first = null;
    try {
      const done = await api.answer(body, (piece) => {
        first ??= performance.now() - began;
        if (current()) this.#text.append(piece);
      }, stop.signal);
      if (!current()) return null;
      if (!done.text.trim()) fill(this.#text, h("span", { class: "soft" }, "(an empty answer)"));
      fill(this.#foot, meta(done, (performance.now() - began) / 1000, first, body.user));
      return done;
    } catch (error) {
      if (!current()) return null;
      const stopped = error.name === "AbortError";
      fill(this.#foot, stopped ? h("p", { class: "meta" }, "Stopped.") : fault(error, () => this.onRetry?.()));
      return null;
    } finally {
      if (current()) {
        this.#text.removeAttribute("aria-busy");
        this.element.classList.remove("busy");
      }
    }
  }

  /** Adds controls under the answer. */
  addFoot(...children) {
    this.#foot.append(...children);
  }
}

function meta(done, seconds, first, user) {
  const timings = done.block?.timings ?? {};
  const parts = [
    done.usage && some(done.usage.completion_tokens, "token"),
    done.block?.personalized && timings.personalize !== undefined && `persona ${span(timings.profile + timings.personalize)}`,
    first !== null && `first word ${span(first / 1000)}`,
    `all ${span(seconds)}`,
  ];
  return h("p", { class: "meta" }, parts.filter(Boolean).join(" · "), user && done.block?.note && h("span", {}, ` · ${done.block.note}`));
}

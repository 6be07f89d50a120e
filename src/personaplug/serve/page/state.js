// What all views share: the models, the people, and who was chosen; tells when it changes.

import * as api from "./api.js";

class State extends EventTarget {
  models = [];
  users = [];
  more = false; // there are more users than were listed
  user = null; // the one chosen in Chat and People
  #asked = null; // for people, last

  /** Asks the server for models and people. */
  async load() {
    this.models = await api.models();
    await this.loadUsers();
  }

  async loadUsers() {
    this.#asked = api.users();
    let page;
    for (let asked = null; asked !== this.#asked;) page = await (asked = this.#asked); // an older answer says less
    this.users = page.data;
    this.more = page.has_more;
    if (this.user === null || !this.#reachable(this.user)) this.user = this.users[0]?.id ?? null;
    this.#tell("users");
  }

  choose(user) {
    if (user === this.user) return;
    this.user = user;
    this.#tell("user");
  }

  /** A user's history changed. */
  async touched(user) {
    this.dispatchEvent(new CustomEvent("touched", { detail: user }));
    await this.loadUsers();
  }

  /** The model's own words without any persona: the same backbone, method none. */
  bare(id) {
    const backbone = backboneOf(id);
    return this.models.find((m) => !m.personaplug.personal && backboneOf(m.id) === backbone && m.id !== id) ?? null;
  }

  model = (id) => this.models.find((m) => m.id === id);

  #reachable(user) {
    return this.more || this.users.some((u) => u.id === user);
  }

  #tell(what) {
    this.dispatchEvent(new Event(what));
  }
}

export const backboneOf = (id) => id.slice(0, id.lastIndexOf(":"));
export const methodOf = (id) => id.slice(id.lastIndexOf(":") + 1);

export const state = new State();

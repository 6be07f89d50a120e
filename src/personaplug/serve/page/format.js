// Times, shares and numbers in words.

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const dates = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const months = new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric" });
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "short" });
const numbers = new Intl.NumberFormat("en-GB");

const STEPS = [["year", 31_557_600], ["month", 2_629_800], ["week", 604_800], ["day", 86_400], ["hour", 3_600], ["minute", 60]];

/** How long ago: "3 days ago". */
export function ago(at, now = Date.now() / 1000) {
  if (at === null || at === undefined) return "no date";
  const seconds = at - now;
  const [unit, size] = STEPS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return unit === "second" ? "just now" : relative.format(Math.round(seconds / size), unit);
}

export const date = (at) => (at === null ? "no date" : dates.format(at * 1000));
export const month = (at) => (at === null ? "No date" : months.format(at * 1000));
export const moment = (at) => (at === null ? "no date" : moments.format(at * 1000));
export const number = (n) => numbers.format(n);
export const percent = (share) => (share >= 0.0995 ? `${Math.round(share * 100)}%` : `${(share * 100).toFixed(1)}%`);
export const some = (n, one, many = `${one}s`) => `${number(n)}\u00a0${n === 1 ? one : many}`;

/** A length of time: "12 ms", "1.4 s". */
export const span = (seconds) => (seconds < 0.9995 ? `${Math.max(1, Math.round(seconds * 1000))}\u00a0ms` : `${seconds.toFixed(1)}\u00a0s`);

/** One line of a text, cut. */
export function line(text, most = 160) {
  const flat = text.replace(/\s+/g, " ").trim();
  return flat.length > most ? `${flat.slice(0, most).trimEnd()}…` : flat;
}

/** What a datetime-local field holds for UTC seconds, and back; times are the reader's own. */
export function toLocal(at) {
  if (at === null || at === undefined) return "";
  const here = new Date(at * 1000);
  return new Date(here.getTime() - here.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
export const fromLocal = (text) => (text ? new Date(text).getTime() / 1000 : null);

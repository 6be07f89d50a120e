// A mark for each person: a few bars and a colour, made from their name.

import { h, svg } from "./dom.js";

const BARS = 4;

export function avatar(user) {
  let sum = 2166136261; // FNV-1a: like names give unlike marks
  for (const c of user) sum = Math.imul(sum ^ c.codePointAt(0), 16777619) >>> 0;
  const bars = Array.from({ length: BARS }, (_, i) => {
    const tall = 5 + 3 * ((sum >>> (4 * i + 8)) % 5);
    return svg("rect", { x: 1 + 6 * i, y: 12 - tall / 2, width: 4, height: tall, rx: 2 });
  });
  return h("span", { class: "avatar", "aria-hidden": "true", style: { "--hue": String(sum % 360) } },
    svg("svg", { viewBox: "0 0 24 24", fill: "currentColor" }, bars));
}

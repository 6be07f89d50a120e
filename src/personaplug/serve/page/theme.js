// Sets the theme before anything is painted: what was chosen here, else the system's.
"use strict";

{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem("personaplug.theme");
    } catch {
      return null; // a browser that keeps nothing
    }
  };
  let chosen = stored();

  const apply = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
    document.getElementById("theme")?.setAttribute("aria-pressed", String(dark));
    document.dispatchEvent(new CustomEvent("theme"));
  };

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("personaplug.theme", chosen);
      } catch {
        // then it lasts until the page is left
      }
      apply();
    });
  });
}

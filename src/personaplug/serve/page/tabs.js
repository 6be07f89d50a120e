// Tabs that arrow keys move between.

/** Wires a tablist; `opened` is called with the tab's id when one is chosen by hand. Returns what marks one as chosen. */
export function wireTabs(list, opened = () => {}) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];

  const choose = (id) => {
    for (const tab of tabs) {
      const on = tab.id === id;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
    }
  };

  list.addEventListener("click", (event) => {
    const tab = event.target.closest('[role="tab"]');
    if (tab) opened(tab.id);
  });
  list.addEventListener("keydown", (event) => {
    const here = tabs.indexOf(event.target);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (here < 0 || to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    tab.focus();
    opened(tab.id);
  });
  return choose;
}

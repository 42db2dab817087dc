// The theme and the keyboard; the last of the scripts, which starts the page.
"use strict";

(() => {
  const { root, byId, state, keep, prepare, connect, setPaused, setField, goTo } = Sollold;

  // Theme ------------------------------------------------------------------------------------

  const THEMES = ["auto", "light", "dark"];
  const setTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    keep("theme", theme);
    byId("theme").value = theme;
  };

  // Keyboard ---------------------------------------------------------------------------------

  let areKeysOn = keep("keys") !== "off";
  let prefixMs = 0;
  const GO = { o: "main", n: "nodes", m: "loaded", e: "decisions", l: "log" };

  const openKeys = () => {
    byId("keys-on").checked = areKeysOn;
    byId("keys-dialog").showModal();
  };
  const panelInFocus = () => document.activeElement?.closest?.(".panel");
  const stepRow = (step) => {
    const panel = panelInFocus()?.querySelector("tr[data-row]") ? panelInFocus() : byId("nodes");
    const rows = [...panel.querySelectorAll("tr[data-row]")];
    if (!rows.length) return;
    const index = rows.indexOf(document.activeElement?.closest?.("tr[data-row]"));
    const next = index < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, index + step));
    rows[next].focus();
  };
  const focusFilter = () => {
    const input = panelInFocus()?.querySelector("input[type=search]") || byId("nodes-filter");
    input?.focus();
    input?.select();
  };
  const isTyping = (target) => Boolean(target.closest?.("input, select, textarea, [contenteditable]"));

  const escape = (target) => {
    if (target.dataset?.view && target.value) {
      target.value = "";
      setField(target.dataset.view, "");
    } else {
      target.blur?.();
    }
  };
  const keyActions = {
    "?": openKeys,
    "/": focusFilter,
    j: () => stepRow(1),
    k: () => stepRow(-1),
    p: () => setPaused(!state.isPaused),
    t: () => setTheme(THEMES[(THEMES.indexOf(byId("theme").value) + 1) % THEMES.length]),
    g: () => { prefixMs = Date.now(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (byId("keys-dialog").open) return;
    if (event.key === "Escape") {
      if (isTyping(event.target)) escape(event.target);
      return;
    }
    if (isTyping(event.target)) return;
    if (event.key === "Enter" && event.target.matches?.("tr[data-row]")) {
      event.target.querySelector("a[href]")?.click();
      return;
    }
    if (!areKeysOn) return;
    if (Date.now() - prefixMs < 1500 && GO[event.key]) {
      event.preventDefault();
      goTo(GO[event.key]);
      prefixMs = 0;
      return;
    }
    prefixMs = 0;
    const act = keyActions[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  // Start ------------------------------------------------------------------------------------

  for (const id of ["connection", "pause", "theme-label", "keys"]) byId(id).hidden = false;
  byId("theme").value = root.dataset.theme || "auto";
  byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
  byId("keys-on").addEventListener("change", (event) => {
    areKeysOn = event.target.checked;
    keep("keys", areKeysOn ? "on" : "off");
  });
  prepare(document);
  Sollold.openKeys = openKeys;
  connect();
})();

// Merges panels that come from the daemon into the page, without moving what somebody reads, points
// at or types in.
"use strict";

(() => {
  const { root, byId, state, prepare, announce } = Sollold;
  const MAX_ROWS = 200;

  const statesOf = (scope) => {
    const found = new Map();
    for (const row of scope.querySelectorAll("tr[data-name]")) found.set(row.dataset.name, row.dataset.state);
    return found;
  };
  const announceStates = (before, after) => {
    for (const [name, state] of after) {
      const was = before.get(name);
      if (was && was !== state) announce(`${name} is ${state}, was ${was}`);
    }
  };

  // Merging ----------------------------------------------------------------------------------

  const waiting = new Map(); // panels whose new order waits while somebody is in the table

  const isInside = (panel) => {
    const body = panel.querySelector("tbody");
    return Boolean(body && (body.matches(":hover") || body.contains(document.activeElement)));
  };
  const rowIds = (panel) => [...panel.querySelectorAll("tbody > tr")].map((row) => row.id);

  // Puts the new rows in the order people are looking at; true when that is another order.
  const holdOrder = (current, next) => {
    const body = next.querySelector("tbody");
    if (!body || !isInside(current)) return false;
    const wanted = rowIds(next);
    const place = new Map(rowIds(current).map((id, index) => [id, index]));
    const rows = [...body.children];
    rows.sort((a, b) => (place.get(a.id) ?? 1e6) - (place.get(b.id) ?? 1e6));
    body.append(...rows);
    return rowIds(next).join() !== wanted.join();
  };

  const restoreFocus = (panel, active, wasInside) => {
    if (!wasInside || document.activeElement === active) return;
    if (document.activeElement && document.activeElement !== document.body) return;
    const again = active.id ? byId(active.id) : null;
    if (again) {
      again.focus({ preventScroll: true });
      return;
    }
    const heading = panel.querySelector("h2");
    if (heading) {
      heading.focus({ preventScroll: true });
      announce("the row in focus is gone");
    }
  };

  const merge = (current, next) => {
    const active = document.activeElement;
    const wasInside = current.contains(active);
    Idiomorph.morph(current, next, { morphStyle: "outerHTML", ignoreActiveValue: true, restoreFocus: true });
    restoreFocus(byId(current.id) || current, active, wasInside);
  };

  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  };

  // A row that somebody wants to see; it may be here only after the filter is gone.
  let sought = "";
  const show = (id) => {
    const row = byId(id);
    sought = row ? "" : id;
    if (!row) return false;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "center" });
    return true;
  };

  const showPanel = (name, next, isForced) => {
    const current = byId(name);
    if (!current || !next) return;
    // What somebody asked for is shown at once, also to who reads, points or pauses.
    const isOther = current.dataset.view !== next.dataset.view;
    const isAsked = isForced || isOther;
    if (state.isPaused && !isAsked) return;
    if (name === "decisions" && !isAsked && isReading()) {
      later = next;
      noteNewer(newIds(next).length, true);
      return;
    }
    const before = name === "nodes" ? statesOf(current) : null;
    prepare(next);
    const lists = [...next.querySelectorAll(".events")].map((list) => list.id);
    const tops = lists.map((id) => byId(id)?.scrollTop ?? 0);
    let isHeld = false;
    if (name === "nodes" && isAsked) waiting.delete(name);
    else if (name === "nodes") {
      const fresh = next.cloneNode(true);
      isHeld = holdOrder(current, next);
      if (isHeld) waiting.set(name, fresh);
      else waiting.delete(name);
    }
    merge(current, next);
    lists.forEach((id, index) => { const list = byId(id); if (list) list.scrollTop = isOther ? 0 : tops[index]; });
    if (before) {
      announceStates(before, statesOf(byId(name)));
      byId("nodes-resort").hidden = !isHeld;
    }
    if (name === "decisions") {
      later = null;
      if (isOther) rowsLater = [];
      noteNewer(0);
    }
    if (name === "nodes" && sought) show(sought);
    if (state.isStale) markStale();
  };

  const resort = () => {
    const next = waiting.get("nodes");
    waiting.delete("nodes");
    if (next) showPanel("nodes", next, true);
  };
  const resortWhenLeft = () => {
    const panel = byId("nodes");
    if (waiting.size && panel && !isInside(panel)) resort();
  };

  // Decisions: rows on top, unless somebody reads further down ---------------------------------

  let later = null; // a whole panel that waits
  let rowsLater = [];
  const isReading = () => {
    const list = byId("decisions-list");
    return Boolean(list && !list.hidden && list.scrollTop > 4);
  };
  const newIds = (panel) => [...panel.querySelectorAll(".events > li")].filter((row) => !byId(row.id));
  const noteNewer = (count, isWhole) => {
    const note = byId("decisions-newer");
    if (!note) return;
    note.hidden = count === 0;
    if (count) note.textContent = `${count}${isWhole && count >= MAX_ROWS ? " or more" : ""} newer, show`;
  };
  const putRows = (rows) => {
    const list = byId("decisions-list");
    if (!list) return;
    const fresh = rows.filter((row) => !byId(row.id));
    if (!fresh.length) return;
    if (list.hidden) {
      list.hidden = false;
      byId("decisions").querySelector(".empty")?.remove();
    }
    list.prepend(...fresh);
    while (list.children.length > MAX_ROWS) list.lastElementChild.remove();
  };
  const showRows = (frame) => {
    const list = byId("decisions-list");
    if (!list || list.dataset.request !== frame.request) return;
    const template = document.createElement("template");
    template.innerHTML = frame.html;
    prepare(template.content);
    const rows = [...template.content.children];
    if (!isReading()) {
      putRows(rows);
      return;
    }
    rowsLater = rows.concat(rowsLater).slice(0, MAX_ROWS);
    const count = rowsLater.length + (later ? newIds(later).length : 0);
    noteNewer(count, true);
  };
  const showNewer = () => {
    const list = byId("decisions-list");
    if (list) list.scrollTop = 0;
    const [panel, rows] = [later, rowsLater];
    later = null;
    rowsLater = [];
    if (panel) showPanel("decisions", panel, true);
    putRows(rows);
    noteNewer(0);
  };

  const dropLater = () => {
    later = null;
    rowsLater = [];
  };
  document.addEventListener("pointerout", resortWhenLeft);
  document.addEventListener("focusout", () => setTimeout(resortWhenLeft, 0));
  document.addEventListener("scroll", (event) => {
    if (event.target.id === "decisions-list" && event.target.scrollTop <= 4 && (later || rowsLater.length)) showNewer();
  }, true);

  // What is old ------------------------------------------------------------------------------

  const STATES = "body .panel .state, body .verdict";
  const markStale = () => {
    for (const item of document.querySelectorAll(STATES)) {
      const word = item.querySelector(".word");
      if (item.dataset.was || word.textContent === "unknown") continue;
      item.dataset.was = word.textContent;
      word.textContent = `unknown (was ${item.dataset.was.toLowerCase()})`;
      item.querySelector("use")?.setAttribute("href", "#shape-unknown");
    }
  };
  const unmarkStale = () => {
    for (const item of document.querySelectorAll(`:is(${STATES})[data-was]`)) {
      item.querySelector(".word").textContent = item.dataset.was;
      item.querySelector("use")?.setAttribute("href", `#shape-${item.dataset.state}`);
      delete item.dataset.was;
    }
  };
  const setStale = (isOld) => {
    state.isStale = isOld;
    if (isOld) {
      root.dataset.stale = "";
      markStale();
    } else {
      delete root.dataset.stale;
      unmarkStale();
    }
  };

  Object.assign(Sollold, { parse, showPanel, showRows, showNewer, dropLater, resort, setStale, show });
})();

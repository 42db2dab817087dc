// Keeps the console page live: one WebSocket, whole panels merged in place. No dependencies but
// idiomorph. The page is complete without it.
(() => {
  "use strict";

  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const STALE_MS = 15000;
  const SILENT_MS = 8000; // the daemon gives a sign of life every 5 s
  const POLL_MS = 5000;
  const FIRST_WAIT_MS = 500;
  const LONGEST_WAIT_MS = 15000;
  const ANNOUNCE_MS = 10000;
  const MAX_ROWS = 200;

  const keep = (name, value) => {
    try {
      if (value === undefined) return localStorage.getItem(`sollold.${name}`);
      localStorage.setItem(`sollold.${name}`, value);
    } catch {
      // Nothing is kept in this browser.
    }
    return null;
  };

  // Time -------------------------------------------------------------------------------------

  // The daemon's clock and the browser's may differ; ages count on the daemon's.
  let skewMs = Date.now() - Number(root.dataset.at);
  let heardMs = Date.now();
  let pausedMs = 0;

  const heard = (atMs) => {
    heardMs = Date.now();
    if (atMs) {
      // The quickest message tells the difference best, until one of the clocks is set.
      const nowMs = heardMs - atMs;
      skewMs = Math.abs(nowMs - skewMs) > 2000 ? nowMs : Math.min(nowMs, skewMs);
    }
  };
  const daemonNow = () => (pausedMs || Date.now()) - skewMs;

  const age = (ms) => {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    const minutes = Math.floor(seconds / 60) % 60;
    const hours = Math.floor(seconds / 3600);
    return hours < 48 ? `${hours}h ${String(minutes).padStart(2, "0")}m` : `${Math.floor(hours / 24)}d`;
  };
  const clockOf = (ms) => new Date(ms).toLocaleTimeString("en-GB");

  const setText = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const fillAges = (scope) => {
    const now = daemonNow();
    for (const item of scope.querySelectorAll("time[data-since]")) {
      setText(item, age(now - Number(item.dataset.since)));
    }
  };
  const fillClocks = (scope) => {
    for (const item of scope.querySelectorAll("time[data-at]")) {
      const at = Number(item.dataset.at);
      setText(item, clockOf(at));
      item.dateTime = new Date(at).toISOString();
    }
  };
  const prepare = (scope) => {
    fillAges(scope);
    fillClocks(scope);
  };

  // Announcements ----------------------------------------------------------------------------

  let unsaid = [];
  let saidMs = 0;
  let sayTimer = 0;
  const sayNow = () => {
    sayTimer = 0;
    saidMs = Date.now();
    byId("announcer").textContent = `${unsaid.join(", ")}.`;
    unsaid = [];
  };
  const announce = (text) => {
    if (unsaid.length < 5) unsaid.push(text);
    else if (unsaid.length === 5) unsaid.push("and more");
    sayTimer = sayTimer || setTimeout(sayNow, Math.max(50, saidMs + ANNOUNCE_MS - Date.now()));
  };

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

  const showPanel = (name, next, isForced) => {
    const current = byId(name);
    if (!current || !next) return;
    if (name === "decisions" && !isForced && isReading()) {
      later = next;
      noteNewer(newIds(next).length, true);
      return;
    }
    const before = name === "nodes" ? statesOf(current) : null;
    prepare(next);
    const lists = [...next.querySelectorAll(".events")].map((list) => list.id);
    const tops = lists.map((id) => byId(id)?.scrollTop ?? 0);
    let isHeld = false;
    if (name === "nodes" && !isForced) {
      const fresh = next.cloneNode(true);
      isHeld = holdOrder(current, next);
      if (isHeld) waiting.set(name, fresh);
      else waiting.delete(name);
    }
    merge(current, next);
    lists.forEach((id, index) => { const list = byId(id); if (list) list.scrollTop = tops[index]; });
    if (before) {
      announceStates(before, statesOf(byId(name)));
      byId("nodes-resort").hidden = !isHeld;
    }
    if (name === "decisions") noteNewer(0);
    if (isStale) markStale();
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

  // Connection -------------------------------------------------------------------------------

  let socket = null;
  let waitMs = FIRST_WAIT_MS;
  let failures = 0;
  let hasWorked = false;
  let isRestarting = false;
  let isPolling = false;
  let isPaused = false;
  let isStale = false;
  let isLost = false;
  let timer = 0;
  let triedMs = 0;

  const isOpen = () => socket !== null && socket.readyState === WebSocket.OPEN;
  const view = () => location.search || "?";
  const say = (message) => { if (isOpen()) socket.send(JSON.stringify(message)); };

  const connect = () => {
    clearTimeout(timer);
    const url = new URL("ws/console" + location.search, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    try {
      socket = new WebSocket(url);
    } catch {
      retry();
      return;
    }
    const mine = socket;
    triedMs = Date.now();
    mine.addEventListener("open", () => {
      failures = 0;
      waitMs = FIRST_WAIT_MS;
      hasWorked = true;
      isPolling = false;
      if (document.hidden || isPaused) say({ is_watching: false });
    });
    mine.addEventListener("message", (event) => { if (mine === socket) take(JSON.parse(event.data)); });
    mine.addEventListener("close", (event) => {
      if (mine !== socket) return;
      socket = null;
      if (event.code === 1001) isRestarting = true;
      if (!hasWorked) failures += 1;
      retry();
    });
  };

  // A daemon that hangs keeps its sockets open: whoever says nothing for long is left.
  const leaveSilent = () => {
    if (!socket || Math.min(Date.now() - heardMs, Date.now() - triedMs) < STALE_MS) return;
    const silent = socket;
    socket = null;
    silent.close();
    retry();
  };

  const retry = () => {
    const waitedMs = waitMs * (0.5 + Math.random());
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    clearTimeout(timer);
    if (failures >= 2 && !isRestarting) {
      poll();
      return;
    }
    timer = setTimeout(connect, Math.min(waitedMs, LONGEST_WAIT_MS));
    showConnection();
  };

  // Behind a proxy that lets no WebSocket through: the page itself, every 5 s.
  let polls = 0;
  const poll = async () => {
    clearTimeout(timer);
    try {
      if (!document.hidden && !isPaused) {
        const answer = await fetch(location.pathname + location.search, { cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        isPolling = true;
        heard(Number(page.documentElement.dataset.at));
        noteVersion(page.documentElement.dataset.version);
        for (const name of ["head", "attention", "nodes", "loaded", "requests", "decisions", "changes", "foot"]) {
          const next = page.getElementById(name);
          if (next) showPanel(name, document.importNode(next, true), false);
        }
        setTitle(page.title, page.getElementById("icon")?.getAttribute("href"));
      }
    } catch {
      isPolling = false;
    }
    polls += 1;
    // A socket that works is better: try one now and then.
    timer = setTimeout(polls % 12 === 0 ? connect : poll, POLL_MS);
    showConnection();
  };

  const setTitle = (text, icon) => {
    document.title = text;
    const link = byId("icon");
    if (icon && link && link.getAttribute("href") !== icon) link.setAttribute("href", icon);
  };

  const take = (message) => {
    heard(message.at);
    if (message.type === "panel") {
      if (isPaused) return;
      if (message.name === "decisions") rowsLater = [];
      showPanel(message.name, parse(message.html), false);
    } else if (message.type === "rows") {
      if (!isPaused) showRows(message);
    } else if (message.type === "title") {
      setTitle(message.text, byId("icon")?.dataset[message.icon]);
    } else if (message.type === "hello") {
      isRestarting = false;
      noteVersion(message.version);
    }
    showConnection();
  };

  const noteVersion = (version) => {
    const notice = byId("notice");
    if (!version || version === root.dataset.version) {
      if (notice.dataset.about === "restart") notice.replaceChildren();
      return;
    }
    if (notice.dataset.version === version && notice.dataset.about === "version") return;
    notice.dataset.about = "version";
    notice.dataset.version = version;
    const link = document.createElement("a");
    link.href = location.pathname + location.search;
    link.textContent = "Reload";
    notice.replaceChildren(`sollold was updated to ${version}. `, link);
  };

  const noteRestart = () => {
    const notice = byId("notice");
    if (notice.dataset.about === "restart" && notice.textContent) return;
    notice.dataset.about = "restart";
    notice.textContent = "sollold is restarting";
  };

  const markStale = () => {
    for (const item of document.querySelectorAll(".panel .state:not([data-was])")) {
      const word = item.querySelector(".word");
      if (item.dataset.state === "unknown") continue;
      item.dataset.was = item.dataset.state;
      word.textContent = `unknown (was ${item.dataset.state})`;
      item.querySelector("use")?.setAttribute("href", "#shape-unknown");
    }
  };
  const unmarkStale = () => {
    for (const item of document.querySelectorAll(".state[data-was]")) {
      item.querySelector(".word").textContent = item.dataset.was;
      item.querySelector("use")?.setAttribute("href", `#shape-${item.dataset.was}`);
      delete item.dataset.was;
    }
  };

  const connectionWords = () => {
    if (isPaused) return ["paused", `Paused since ${clockOf(pausedMs)}`];
    if (isPolling) return ["polling", "Polling every 5 s (socket blocked)"];
    if (isOpen() && Date.now() - heardMs < SILENT_MS) return ["live", "Live"];
    const old = Math.max(0, Math.round((Date.now() - heardMs) / 1000));
    return ["lost", `Reconnecting, data from ${clockOf(heardMs)} (${old} s ago)`];
  };

  const showConnection = () => {
    const [state, text] = connectionWords();
    const element = byId("connection");
    element.dataset.connection = state;
    element.hidden = false;
    setText(byId("connection-words"), text);
    const isOld = !isPaused && Date.now() - heardMs > STALE_MS;
    if (isOld !== isStale) {
      isStale = isOld;
      if (isOld) {
        root.dataset.stale = "";
        markStale();
      } else {
        delete root.dataset.stale;
        unmarkStale();
      }
    }
    if (isRestarting && !isOpen()) noteRestart();
    const lost = state === "lost" && hasWorked;
    if (lost !== isLost) {
      isLost = lost;
      announce(lost ? (isRestarting ? "sollold is restarting" : "connection lost") : "connected again");
    }
  };

  const setPaused = (next) => {
    if (isPaused === next) return;
    isPaused = next;
    pausedMs = next ? Date.now() : 0;
    const button = byId("pause");
    button.setAttribute("aria-pressed", String(next));
    button.textContent = next ? "Resume" : "Pause";
    if (!next) {
      later = null;
      rowsLater = [];
    }
    say({ is_watching: !next && !document.hidden });
    showConnection();
  };

  // View -------------------------------------------------------------------------------------

  const setView = (search, hash) => {
    history.replaceState(null, "", location.pathname + (search === "?" ? "" : search) + (hash ?? location.hash));
    if (isOpen()) say({ view: view() });
    else if (isPolling) poll();
  };
  const setField = (name, value) => {
    const fields = new URLSearchParams(location.search);
    if (value) fields.set(name, value);
    else fields.delete(name);
    setView(`?${fields}`);
  };

  let typing = 0;
  document.addEventListener("input", (event) => {
    const name = event.target.dataset?.view;
    if (!name) return;
    clearTimeout(typing);
    typing = setTimeout(() => setField(name, event.target.value.trim()), 150);
  });
  document.addEventListener("submit", (event) => {
    const input = event.target.querySelector?.("[data-view]");
    if (!input) return;
    event.preventDefault();
    clearTimeout(typing);
    setField(input.dataset.view, input.value.trim());
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const target = event.target.closest?.("a, button");
    if (!target) return;
    if (target.id === "pause") setPaused(!isPaused);
    else if (target.id === "keys") openKeys();
    else if (target.id === "decisions-newer") showNewer();
    else if (target.id === "nodes-resort") resort();
    else if (!isOpen() && !isPolling) return;
    else if (target.dataset.clear) {
      event.preventDefault();
      const input = byId(target.dataset.clear);
      input.value = "";
      input.focus();
      setField(input.dataset.view, "");
    } else if (target.dataset.link === "view") {
      event.preventDefault();
      waiting.clear();
      setView(new URL(target.href).search || "?");
    } else if (target.dataset.request) {
      event.preventDefault();
      byId("decisions-request").value = target.dataset.request;
      setField("request", target.dataset.request);
      goTo("decisions");
    }
  });
  document.addEventListener("pointerout", resortWhenLeft);
  document.addEventListener("focusout", () => setTimeout(resortWhenLeft, 0));
  document.addEventListener("scroll", (event) => {
    if (event.target.id === "decisions-list" && event.target.scrollTop <= 4 && (later || rowsLater.length)) showNewer();
  }, true);

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

  const goTo = (name) => {
    const panel = byId(name);
    if (!panel) return;
    if (name === "main") {
      scrollTo({ top: 0 });
      document.querySelector(".skip").focus({ preventScroll: true });
      return;
    }
    const heading = panel.querySelector("h2");
    heading?.focus({ preventScroll: true });
    panel.scrollIntoView({ block: "start" });
  };
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
    p: () => setPaused(!isPaused),
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
  document.addEventListener("visibilitychange", () => {
    say({ is_watching: !document.hidden && !isPaused });
    if (!document.hidden && !isOpen() && !isPolling) {
      waitMs = FIRST_WAIT_MS;
      connect();
    }
  });
  addEventListener("pageshow", (event) => { if (event.persisted && !isOpen()) connect(); });
  addEventListener("online", () => { if (!isOpen()) connect(); });
  setInterval(() => {
    if (document.hidden) return;
    if (!isPaused) fillAges(document);
    leaveSilent();
    showConnection();
  }, 1000);
  fillClocks(document);
  fillAges(document);
  connect();
})();

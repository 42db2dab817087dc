// Keeps the page live: one WebSocket, else the page itself every 5 s; and says how fresh it is.
"use strict";

(() => {
  const {
    root, byId, state, heard, heardAgo, heardAt, clockOf, setText, fillAges, fillClocks, announce,
    parse, showPanel, showRows, dropLater, setStale,
  } = Sollold;
  const STALE_MS = 15000;
  const SILENT_MS = 8000; // the daemon gives a sign of life every 5 s
  const POLL_MS = 5000;
  const FIRST_WAIT_MS = 500;
  const LONGEST_WAIT_MS = 15000;
  const PANELS = ["head", "attention", "nodes", "loaded", "requests", "decisions", "changes", "foot"];

  // Connection -------------------------------------------------------------------------------

  let socket = null;
  let waitMs = FIRST_WAIT_MS;
  let failures = 0;
  let hasWorked = false;
  let isRestarting = false;
  let stoppedMs = 0;
  let fullAt = 0; // how many pages are open, when that is why this one has no socket
  let isPolling = false;
  let isLost = false;
  let timer = 0;
  let triedMs = 0;

  const isOpen = () => socket !== null && socket.readyState === WebSocket.OPEN;
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
      if (document.hidden || state.isPaused) say({ is_watching: false });
    });
    mine.addEventListener("message", (event) => { if (mine === socket) take(JSON.parse(event.data)); });
    mine.addEventListener("close", (event) => {
      if (mine !== socket) return;
      socket = null;
      if (event.code === 1001) {
        isRestarting = true;
        stoppedMs = Date.now();
      }
      failures += 1;
      retry();
    });
  };

  // A daemon that hangs keeps its sockets open: whoever says nothing for long is left.
  const leaveSilent = () => {
    if (!socket || Math.min(heardAgo(), Date.now() - triedMs) < STALE_MS) return;
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

  // Behind a proxy that lets no WebSocket through, or with too many pages open: the page itself, every 5 s.
  let polls = 0;
  const poll = async () => {
    clearTimeout(timer);
    const isBack = hasWorked && !isPolling;
    try {
      const asked = location.search;
      // A daemon that hangs takes the question and never answers.
      const signal = AbortSignal.timeout(STALE_MS);
      const answer = await fetch(location.pathname + asked, { cache: "no-store", signal });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      isPolling = true;
      isRestarting = false;
      fullAt = Number(page.documentElement.dataset.full || 0);
      heard(Number(page.documentElement.dataset.at));
      noteVersion(page.documentElement.dataset.version);
      for (const name of asked === location.search ? PANELS : []) {
        const next = page.getElementById(name);
        if (next) showPanel(name, document.importNode(next, true), false);
      }
      setTitle(page.title, page.getElementById("icon")?.getAttribute("href"));
    } catch {
      isPolling = false;
    }
    polls += 1;
    clearTimeout(timer);
    // A socket that works is better: try one now and then, and where one worked, as soon as it may again.
    if (isPolling && isBack) timer = setTimeout(connect, FIRST_WAIT_MS);
    else if (isPolling) timer = setTimeout(polls % 12 === 0 ? connect : poll, POLL_MS);
    else timer = setTimeout(connect, waitMs);
    showConnection();
  };

  // The title and the icon are what is seen of a hidden tab.
  let title = document.title;
  let icon = byId("icon")?.getAttribute("href");
  const showTitle = () => {
    const link = byId("icon");
    const shape = state.isStale ? link?.dataset.unknown : icon;
    document.title = state.isStale ? "lost · sollold" : title;
    if (shape && link.getAttribute("href") !== shape) link.setAttribute("href", shape);
  };
  const setTitle = (text, shape) => {
    title = text;
    icon = shape || icon;
    showTitle();
  };

  const take = (message) => {
    heard(message.at);
    if (message.type === "panel") {
      showPanel(message.name, parse(message.html), false);
    } else if (message.type === "rows") {
      if (!state.isPaused) showRows(message);
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

  // One that does not come back was stopped, or is lost.
  const noteRestart = () => {
    const notice = byId("notice");
    if (Date.now() - stoppedMs > STALE_MS) {
      isRestarting = false;
      if (notice.dataset.about === "restart") notice.replaceChildren();
      return;
    }
    if (notice.dataset.about === "restart" && notice.textContent) return;
    notice.dataset.about = "restart";
    notice.textContent = "sollold is restarting";
  };

  const connectionWords = () => {
    const isHeard = isPolling || (isOpen() && heardAgo() < SILENT_MS);
    if (state.isPaused && isHeard) return ["paused", `Paused since ${clockOf(state.pausedMs)}`];
    if (state.isPaused) return ["lost", "Paused, connection lost"];
    const why = fullAt ? `${fullAt} pages are open already` : "socket blocked";
    if (isPolling) return ["polling", `Polling every 5 s (${why})`];
    if (isHeard) return ["live", "Live"];
    const old = Math.max(0, Math.round(heardAgo() / 1000));
    return ["lost", `Reconnecting, data from ${clockOf(heardAt())} (${old} s ago)`];
  };

  const showConnection = () => {
    const [state, text] = connectionWords();
    const element = byId("connection");
    element.dataset.connection = state;
    element.hidden = false;
    setText(byId("connection-words"), text);
    const isOld = !isPolling && heardAgo() > STALE_MS;
    if (isOld !== state.isStale) {
      setStale(isOld);
      showTitle();
    }
    if (isRestarting && !isOpen()) noteRestart();
    const lost = state === "lost" && hasWorked;
    if (lost !== isLost) {
      isLost = lost;
      announce(lost ? (isRestarting ? "sollold is restarting" : "connection lost") : "connected again");
    }
  };

  const setPaused = (next) => {
    if (state.isPaused === next) return;
    state.isPaused = next;
    state.pausedMs = next ? Date.now() : 0;
    const button = byId("pause");
    button.setAttribute("aria-pressed", String(next));
    button.textContent = next ? "Resume" : "Pause";
    if (!next) dropLater();
    say({ is_watching: !next && !document.hidden });
    if (!next && isPolling) poll();
    showConnection();
  };

  document.addEventListener("visibilitychange", () => {
    say({ is_watching: !document.hidden && !state.isPaused });
    if (!document.hidden && socket === null && !isPolling) {
      waitMs = FIRST_WAIT_MS;
      connect();
    }
  });
  addEventListener("pageshow", (event) => { if (event.persisted && !isOpen()) connect(); });
  addEventListener("online", () => { if (!isOpen()) connect(); });
  let day = new Date().toDateString();
  setInterval(() => {
    if (!document.hidden && !state.isPaused) fillAges(document);
    if (day !== new Date().toDateString()) {
      day = new Date().toDateString();
      fillClocks(document);
    }
    leaveSilent();
    showConnection();
  }, 1000);

  Object.assign(Sollold, { isOpen, isPolling: () => isPolling, say, poll, connect, setPaused });
})();

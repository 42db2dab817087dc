// The panel with the daemon's own log lines. It follows /ws/logs, or asks every five seconds where a
// WebSocket does not get through, and says which. Lines come from the network: text only.
"use strict";

(() => {
  const MAX_LINES = 500;
  const POLL_MS = 5000;
  const RETRY_MS = [500, 15000];
  const AT_END_PX = 4;
  const HIDDEN_MS = 30000;
  const TYPING_MS = 300;
  const LEVELS = ["debug", "info", "warning", "error", "critical"];
  const SHAPES = { debug: "unknown", info: "up", warning: "slow", error: "down", critical: "down" };
  const STOPPING = 1001;
  const RESTART_MS = 15000; // one that takes longer was stopped, or is lost

  const byId = (name) => document.getElementById(name);
  const panel = byId("log");
  if (!panel) return;
  const form = byId("log-form");
  const level = byId("log-level");
  const source = byId("log-source");
  const pause = byId("log-pause");
  const state = byId("log-state");
  const box = byId("log-lines");
  const list = byId("log-list");
  const empty = byId("log-empty");
  const newer = byId("log-newer");
  const pagePause = byId("pause");
  const pageConnection = byId("connection");

  let socket = null;
  let timer = 0;
  let hiddenTimer = 0;
  let typingTimer = 0;
  let delay = RETRY_MS[0];
  let connection = "connecting";
  let isGreeted = false;
  let last = null; // the newest line that came in
  let heardAt = null; // when the daemon was last heard
  let pausedAt = null;
  let stoppedAt = 0;
  let waiting = []; // lines that came in and are not shown
  let waitingCount = 0;

  // Lines ------------------------------------------------------------------------------------

  const two = (number) => String(number).padStart(2, "0");
  const clock = (moment) =>
    `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;

  function shownTime(at) {
    const moment = new Date(at);
    if (Number.isNaN(moment.getTime())) return at;
    const time = `${clock(moment)}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
    if (moment.toDateString() === new Date().toDateString()) return time;
    return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ${time}`;
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function shape(name) {
    const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawing.setAttribute("class", "shape");
    drawing.setAttribute("aria-hidden", "true");
    drawing.setAttribute("focusable", "false");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `#shape-${name}`);
    drawing.append(use);
    return drawing;
  }

  function row(line) {
    const word = LEVELS.includes(line.level) ? line.level : "info";
    const made = element("li", `log-line log-${word}`);
    const time = element("time", "log-time", shownTime(line.at));
    time.dateTime = line.at;
    const mark = element("span", "log-level");
    mark.append(shape(SHAPES[word]), element("span", "word", word));
    const text = element("span", "log-text");
    const name = String(line.source).replace(/^sollold\./, "");
    text.append(element("span", "log-source", name), " ", String(line.message));
    made.append(time, " ", mark, " ", text);
    if (line.request) {
      const link = element("a", "log-request", String(line.request));
      link.href = `?request=${encodeURIComponent(line.request)}#decisions`;
      link.dataset.request = line.request;
      link.setAttribute("aria-label", `Decisions about ${line.request}`);
      text.append(" ", link);
    }
    return made;
  }

  function show(lines) {
    const fragment = document.createDocumentFragment();
    for (const line of lines.slice(-MAX_LINES)) fragment.append(row(line));
    const excess = list.childElementCount + fragment.childElementCount - MAX_LINES;
    for (let count = Math.min(excess, list.childElementCount); count > 0; count -= 1) {
      const first = list.firstElementChild;
      if (first.contains(document.activeElement)) box.focus({ preventScroll: true });
      first.remove();
    }
    list.append(fragment);
  }

  const isAtEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight <= AT_END_PX;
  const isPaused = () =>
    pause.getAttribute("aria-pressed") === "true" ||
    (pagePause !== null && pagePause.getAttribute("aria-pressed") === "true");
  const toEnd = () => {
    box.scrollTop = box.scrollHeight;
  };

  function take(lines) {
    if (lines.length === 0) return;
    last = lines[lines.length - 1];
    if (isPaused() || (list.childElementCount > 0 && !isAtEnd())) {
      waiting = waiting.concat(lines).slice(-MAX_LINES);
      waitingCount += lines.length;
    } else {
      show(waiting.concat(lines));
      waiting = [];
      waitingCount = 0;
    }
    tell();
    if (waitingCount === 0) toEnd();
  }

  // After a gap in the connection the last lines come whole; none is shown twice.
  function takeWhole(lines) {
    if (last === null) {
      take(lines);
      return;
    }
    const known = last;
    const place = lines.findLastIndex(
      (line) => line.at === known.at && line.message === known.message,
    );
    take(place < 0 ? lines.filter((line) => line.at > known.at) : lines.slice(place + 1));
  }

  function showWaiting() {
    show(waiting);
    waiting = [];
    waitingCount = 0;
    tell();
    toEnd();
  }

  function clear() {
    list.replaceChildren();
    waiting = [];
    waitingCount = 0;
    last = null;
  }

  // What is said -----------------------------------------------------------------------------

  function words() {
    const until = heardAt === null ? "" : `, lines until ${clock(heardAt)}`;
    if (pausedAt !== null && (connection === "stopping" || connection === "lost")) {
      return `Paused, connection lost${until}`;
    }
    if (connection === "stopping") return `sollold is restarting${until}`;
    if (connection === "lost") return `Reconnecting${until}`;
    if (connection === "connecting") return "Connecting";
    if (pausedAt !== null) return `Paused since ${clock(pausedAt)}`;
    return connection === "polling" ? "Polling every 5 s" : "Live";
  }

  function tell() {
    const text = words();
    if (state.textContent !== text) state.textContent = text;
    state.dataset.state = pausedAt !== null && connection === "live" ? "paused" : connection;
    const count = waitingCount.toLocaleString("en");
    newer.hidden = waitingCount === 0;
    if (waitingCount) newer.textContent = `${count} newer, show`;
    const isEmpty = list.childElementCount === 0;
    box.hidden = isEmpty;
    empty.hidden = !isEmpty;
    if (isEmpty) empty.textContent = emptyText();
  }

  function emptyText() {
    if (waitingCount) return "Paused before the first line.";
    if (!isGreeted) return "The log has not been read yet.";
    const from = source.value.trim();
    const what = `of level ${level.value}${level.value === "critical" ? "" : " or above"}`;
    const whose = from ? ` from '${from}'` : "";
    return `No line ${what}${whose} is among the last 2,000. The daemon itself leaves out what is below [log] level.`;
  }

  const isRestarting = () =>
    connection === "stopping" && Date.now() - stoppedAt < RESTART_MS;

  function heard(how) {
    connection = how;
    heardAt = new Date();
    isGreeted = true;
  }

  // Connection -------------------------------------------------------------------------------

  function query() {
    const fields = new URLSearchParams({ level: level.value, n: String(MAX_LINES) });
    const from = source.value.trim();
    if (from) fields.set("source", from);
    return fields;
  }

  function connect() {
    window.clearTimeout(timer);
    drop();
    const address = new URL(`ws/logs?${query()}`, document.baseURI);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(address);
    let isWhole = true;
    socket = mine;
    mine.onmessage = (event) => {
      if (socket !== mine) return;
      heard("live");
      delay = RETRY_MS[0];
      const lines = JSON.parse(event.data);
      (isWhole ? takeWhole : take)(lines);
      isWhole = false;
      tell();
    };
    mine.onclose = (event) => {
      if (socket !== mine) return;
      socket = null;
      if (event.code === STOPPING) {
        connection = "stopping";
        stoppedAt = Date.now();
        again();
      } else if (isWhole) {
        poll();
      } else {
        connection = "lost";
        again();
      }
      tell();
    };
  }

  // A socket that never opened may be stopped by a proxy: ask in the plain way.
  async function poll() {
    let status = 0;
    const fields = query();
    try {
      const answer = await fetch(new URL(`api/v1/logs?${fields}`, document.baseURI), {
        cache: "no-store",
      });
      status = answer.status;
      if (answer.ok) {
        const lines = (await answer.json()).lines;
        if (String(fields) !== String(query())) return;
        heard("polling");
        takeWhole(lines);
      }
    } catch {
      status = 0;
    }
    if (status !== 200 && !isRestarting()) connection = "lost";
    tell();
    if (status === 200) timer = window.setTimeout(connect, POLL_MS);
    else again();
  }

  function again() {
    window.clearTimeout(timer);
    timer = window.setTimeout(connect, delay * (0.5 + Math.random() / 2));
    delay = Math.min(delay * 2, RETRY_MS[1]);
  }

  function drop() {
    const old = socket;
    socket = null;
    if (old === null) return;
    // Closing one that is not open yet would count as an error of the page.
    if (old.readyState === WebSocket.CONNECTING) old.onopen = () => old.close();
    else old.close();
  }

  // The person -------------------------------------------------------------------------------

  function changed() {
    window.clearTimeout(typingTimer);
    const address = new URL(window.location.href);
    for (const [name, value] of [
      ["log-level", level.value === "info" ? "" : level.value],
      ["log-source", source.value.trim()],
    ]) {
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    window.history.replaceState(window.history.state, "", address);
    document.dispatchEvent(new Event("sollold-address"));
    clear();
    isGreeted = false;
    connection = "connecting";
    tell();
    connect();
  }

  function pauseChanged() {
    if (isPaused()) {
      pausedAt = pausedAt || new Date();
    } else if (pausedAt !== null) {
      pausedAt = null;
      showWaiting();
    }
    tell();
  }

  // A log may be silent for hours; that the daemon is gone, the page notices by its signs of life.
  function pageConnectionChanged() {
    if (pageConnection.dataset.connection !== "lost") return;
    if (socket === null || socket.readyState !== WebSocket.OPEN) return;
    drop();
    if (!isRestarting()) connection = "lost";
    again();
    tell();
  }

  function visibilityChanged() {
    window.clearTimeout(hiddenTimer);
    if (document.hidden) {
      hiddenTimer = window.setTimeout(() => {
        window.clearTimeout(timer);
        drop();
        connection = "lost";
        tell();
      }, HIDDEN_MS);
    } else if (socket === null) {
      delay = RETRY_MS[0];
      connect();
    }
  }

  function begin() {
    const asked = new URLSearchParams(window.location.search);
    if (LEVELS.includes(asked.get("log-level"))) level.value = asked.get("log-level");
    source.value = (asked.get("log-source") || "").slice(0, 100);
    level.addEventListener("change", changed);
    source.addEventListener("input", () => {
      window.clearTimeout(typingTimer);
      typingTimer = window.setTimeout(changed, TYPING_MS);
    });
    source.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && source.value) {
        source.value = "";
        changed();
        event.stopPropagation();
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      changed();
    });
    pause.addEventListener("click", () => {
      const isPressed = pause.getAttribute("aria-pressed") === "true";
      pause.setAttribute("aria-pressed", String(!isPressed));
      pauseChanged();
    });
    newer.addEventListener("click", () => {
      showWaiting();
      box.focus({ preventScroll: true });
    });
    box.addEventListener("scroll", () => {
      if (waitingCount && !isPaused() && isAtEnd()) showWaiting();
    });
    if (pagePause) {
      new MutationObserver(pauseChanged).observe(pagePause, {
        attributes: true,
        attributeFilter: ["aria-pressed"],
      });
    }
    if (pageConnection) {
      new MutationObserver(pageConnectionChanged).observe(pageConnection, {
        attributes: true,
        attributeFilter: ["data-connection"],
      });
    }
    document.addEventListener("visibilitychange", visibilityChanged);
    form.hidden = false;
    state.hidden = false;
    tell();
    connect();
  }

  // Nobody has looked at it yet: no reader is taken before the panel comes near.
  const nearby = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) {
        nearby.disconnect();
        begin();
      }
    },
    { rootMargin: "100px" },
  );
  nearby.observe(panel);
})();

// What the scripts of the console page share: elements, time in words, announcements. They run in
// the order in which the page names them and need nothing but idiomorph; the page is complete
// without them.
"use strict";

const Sollold = {};

(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const ANNOUNCE_MS = 10000;
  // What one script decides and others heed.
  const state = { isPaused: false, pausedMs: 0, isStale: false };

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

  const heard = (atMs) => {
    heardMs = Date.now();
    if (atMs) {
      // The quickest message tells the difference best, until one of the clocks is set.
      const nowMs = heardMs - atMs;
      skewMs = Math.abs(nowMs - skewMs) > 2000 ? nowMs : Math.min(nowMs, skewMs);
    }
  };
  const daemonNow = () => (state.pausedMs || Date.now()) - skewMs;

  const age = (ms) => {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    const minutes = Math.floor(seconds / 60) % 60;
    const hours = Math.floor(seconds / 3600);
    return hours < 48 ? `${hours}h ${String(minutes).padStart(2, "0")}m` : `${Math.floor(hours / 24)}d`;
  };

  // A time of another day comes with that day.
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const clockOf = (ms) => {
    const [at, now] = [new Date(ms), new Date()];
    const time = at.toLocaleTimeString("en-GB");
    if (at.toDateString() === now.toDateString()) return time;
    const year = at.getFullYear() === now.getFullYear() ? "" : ` ${at.getFullYear()}`;
    return `${at.getDate()} ${MONTHS[at.getMonth()]}${year} ${time}`;
  };

  const setText = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const fillAges = (scope) => {
    const now = daemonNow();
    for (const item of scope.querySelectorAll("time[data-since]")) {
      setText(item, age(now - Number(item.dataset.since)));
    }
    for (const item of scope.querySelectorAll("time[data-until]")) {
      const leftMs = Number(item.dataset.until) - now;
      setText(item, leftMs > 0 ? `${age(leftMs)} left` : "unloading");
    }
  };
  const fillClocks = (scope) => {
    for (const item of scope.querySelectorAll("time[data-at]")) {
      const at = Number(item.dataset.at);
      setText(item, clockOf(at));
      item.dateTime = new Date(at).toISOString();
    }
  };

  // The daemon makes a panel once for everybody who sees the same; links keep what else is asked for.
  const address = (changes) => {
    const fields = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value) fields.set(name, value);
      else fields.delete(name);
    }
    return `?${fields}`;
  };
  const localise = (scope) => {
    for (const link of scope.querySelectorAll("a[data-sort]")) {
      link.setAttribute("href", address({ sort: link.dataset.sort }));
    }
    for (const link of scope.querySelectorAll("a[data-request]")) {
      link.setAttribute("href", `${address({ request: link.dataset.request })}#decisions`);
    }
    for (const link of scope.querySelectorAll("a[data-clear]")) {
      const field = link.dataset.clear.endsWith("-filter") ? "filter" : "request";
      link.setAttribute("href", address({ [field]: "" }));
    }
    for (const link of scope.querySelectorAll("a[data-show]")) {
      link.setAttribute("href", `${address({ filter: "" })}#${link.dataset.show}`);
    }
    for (const link of scope.querySelectorAll("a[data-log]")) {
      link.setAttribute("href", `${address({ "log-source": link.dataset.log })}#log`);
    }
  };
  const prepare = (scope) => {
    fillAges(scope);
    fillClocks(scope);
    localise(scope);
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

  Object.assign(Sollold, {
    root, byId, state, keep, heard, heardAgo: () => Date.now() - heardMs, heardAt: () => heardMs,
    clockOf, setText, fillAges, fillClocks, address, localise, prepare, announce,
  });
})();

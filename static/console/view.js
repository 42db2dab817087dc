// What one person looks at: sorting, filter, the request looked for, where on the page.
"use strict";

(() => {
  const {
    byId, state, address, localise, showNewer, resort, show, isOpen, isPolling, say, poll, setPaused,
  } = Sollold;

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

  const setField = (name, value) => {
    const search = address({ [name]: value });
    history.replaceState(null, "", location.pathname + (search === "?" ? "" : search) + location.hash);
    localise(document);
    if (isOpen()) say({ view: location.search || "?" });
    else if (isPolling()) poll();
  };
  const clear = (id) => {
    const input = byId(id);
    input.value = "";
    setField(input.dataset.view, "");
    return input;
  };
  const showLog = (from) => {
    const source = byId("log-source");
    source.value = from;
    const search = address({ "log-source": from });
    history.replaceState(null, "", location.pathname + search + location.hash);
    localise(document);
    source.dispatchEvent(new Event("input"));
    goTo("log");
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
    if (target.id === "pause") setPaused(!state.isPaused);
    else if (target.id === "keys") Sollold.openKeys();
    else if (target.id === "decisions-newer") showNewer();
    else if (target.id === "nodes-resort") resort();
    else if (target.dataset.show && show(target.dataset.show)) event.preventDefault();
    else if (target.dataset.log) {
      event.preventDefault();
      showLog(target.dataset.log);
    } else if (!isOpen() && !isPolling()) return;
    else if (target.dataset.show) {
      event.preventDefault();
      clear("nodes-filter");
    } else if (target.dataset.clear) {
      event.preventDefault();
      clear(target.dataset.clear).focus();
    } else if (target.dataset.sort) {
      event.preventDefault();
      setField("sort", target.dataset.sort);
    } else if (target.dataset.request) {
      event.preventDefault();
      byId("decisions-request").value = target.dataset.request;
      setField("request", target.dataset.request);
      goTo("decisions");
    }
  });
  document.addEventListener("sollold-address", () => localise(document));

  Object.assign(Sollold, { setField, goTo });
})();

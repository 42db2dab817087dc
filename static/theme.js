// Sets the theme before anything is painted.
(() => {
  "use strict";
  const root = document.documentElement;
  root.dataset.js = "";
  try {
    const theme = localStorage.getItem("sollold.theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {
    // A browser that keeps nothing follows the system.
  }
})();

// Starts the viewer of /docs. It asks this daemon and nobody else.
"use strict";

const place = document.getElementById("viewer");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function followColours() {
  document.documentElement.classList.toggle("dark-mode", prefersDark.matches);
}

followColours();
prefersDark.addEventListener("change", followColours);

SwaggerUIBundle({
  url: new URL(place.dataset.document, location.href).href,
  domNode: place,
  deepLinking: true,
  validatorUrl: null,
  queryConfigEnabled: false,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
});

// What the theme leaves to the page: boxes that scroll can be reached with the keyboard, and folds and buttons are
// called what is written on them.
const MODES = { light: "Light", dark: "Dark", auto: "System Settings" };

const keep = () => {
  for (const box of document.querySelectorAll(".scroll, .bd-content figure, .cell_output .output, .bd-content pre, div.math")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
  }
};
const call = () => {
  const mode = MODES[document.documentElement.dataset.mode] ?? MODES.auto;
  for (const button of document.querySelectorAll(".theme-switch-button")) button.ariaLabel = `Color mode: ${mode}`;
};

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("summary[aria-label], .search-button-field").forEach((node) => node.removeAttribute("aria-label"));
  keep();
  call();
  new MutationObserver(call).observe(document.documentElement, { attributeFilter: ["data-mode"] });
});
addEventListener("load", keep);
addEventListener("resize", keep);
document.addEventListener("change", keep);  // a tab was turned
document.addEventListener("toggle", keep, true);  // a fold was opened

// What a page is like as drawn: run in it by test_browser.py. Tabs and folds are opened first, since what they hide
// is part of the page too.
(async () => {
  await document.fonts.ready;
  const opened = document.createElement("style");
  opened.textContent = ".sd-tab-content { display: block !important; }";
  document.head.append(opened);
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  dispatchEvent(new Event("resize"));  // what a page does when more of it is seen
  document.querySelectorAll("img[loading=lazy]").forEach((image) => { image.loading = "eager"; });
  await Promise.allSettled([...document.images].map((image) => image.decode()));

  const width = document.documentElement.clientWidth;
  const name = (node) => `${node.tagName.toLowerCase()}.${[...node.classList].join(".")} ${node.textContent.trim().slice(0, 40)}`;
  const scrolls = (node) => node && node !== document.body
    && (["auto", "scroll"].includes(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
  // Wider than the window, and not inside a box that the reader can scroll: cut off, or pushing the page sideways.
  const wide = [...document.querySelectorAll("article *")].filter((node) => {
    const box = node.getBoundingClientRect();
    return box.width > 1 && box.right > width + 1 && getComputedStyle(node).position !== "absolute" && !scrolls(node);
  });
  const small = [...document.querySelectorAll("article p, article li, article td, article th")].filter((node) =>
    node.checkVisibility() && node.textContent.trim() && parseFloat(getComputedStyle(node).fontSize) < 11.9);
  // What begins left of the box it stands in is where nobody can scroll to.
  const cut = [...document.querySelectorAll("article div.math")].filter((box) =>
    [...box.querySelectorAll("math *")].some((part) =>
      part.getBoundingClientRect().left < box.getBoundingClientRect().left - 1));
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  const told = (node) => getComputedStyle(node, "::before");
  const says = (node) => told(node).content.includes("swipe") && parseFloat(told(node).fontSize) > 0;
  const boxes = document.querySelectorAll("article figure, article .pst-scrollable-table-container");
  const promised = [...boxes].filter((node) => says(node) !== (node.scrollWidth > node.clientWidth));
  return {
    promised: promised.map(name),
    scrollWidth: document.documentElement.scrollWidth,
    wide: wide.map(name),
    small: small.map(name),
    cut: cut.map(name),
    shift: window.steerkitShift ?? 0,
  };
})()

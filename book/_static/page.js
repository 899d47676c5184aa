/* What every page of the book gets: plotly figures that are drawn when the reader comes near, tables and calls that fit
   a phone, and names and keys where the theme forgets them. */
(() => {
  /* Several scenes drawn while a page is read would keep it from showing anything for seconds. */
  const drawWhenNear = () => {
    const draw = window.Plotly.newPlot, waiting = new Map();
    const near = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting || !waiting.has(target)) continue;
        near.unobserve(target);
        setTimeout(waiting.get(target)); // one after the other, each seen at once
        waiting.delete(target);
      }
    }, { rootMargin: "300px" });
    window.Plotly.newPlot = (id, data, layout, config) => new Promise((done) => {
      const el = document.getElementById(id);
      el.style.minHeight = `${layout.height}px`; // its place, so that what is below does not seem near
      waiting.set(el, () => draw(el, data, layout, config).then((gd) => {
        el.style.minHeight = "";
        done(gd);
      }));
      near.observe(el);
    });
  };

  const mend = () => {
    for (const button of document.querySelectorAll(".search-button-field")) button.removeAttribute("aria-label");
    for (const button of document.querySelectorAll(".theme-switch-button")) {
      button.title = button.getAttribute("aria-label") || button.title;
      button.removeAttribute("aria-label");
    }
    for (const list of document.querySelectorAll(".sig > dl")) { // parameters, one a line: a list without terms
      list.setAttribute("role", "list");
      for (const item of list.children) item.setAttribute("role", "listitem");
    }
    for (const entry of document.querySelectorAll(".citation-list > [role]")) entry.setAttribute("role", "listitem");
    for (const table of document.querySelectorAll("article table")) {
      const rows = [...table.rows];
      [...rows[0].cells].forEach((head, k) => {
        const letters = rows.map((row) => row.cells[k] ? row.cells[k].textContent.length : 0);
        head.style.setProperty("--letters", Math.max(...letters));
      });
    }
    for (const word of document.querySelectorAll(".bd-article :not(pre) > code .pre")) {
      if (word.textContent.length > 30) word.style.whiteSpace = "normal"; // else a call runs out of a phone
    }
  };

  const reach = () => {
    for (const wide of document.querySelectorAll("article table, mjx-container[display='true'], article pre")) {
      if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0; // so that the arrow keys scroll it
    }
  };

  if (window.Plotly) drawWhenNear();
  window.addEventListener("load", () => { mend(); reach(); });
  window.addEventListener("resize", reach); // a narrower page has more that must scroll
})();

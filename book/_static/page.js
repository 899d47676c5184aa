/* What every page of the book gets: plotly figures that are drawn when the reader comes near, in the colours of the
   theme, and names and keys where the theme forgets them. */
(() => {
  const paint = () => {
    const isDark = document.documentElement.dataset.theme === "dark";
    const ink = isDark ? "#d7dbe0" : "#333333", grid = isDark ? "#3d444d" : "#ebf0f8";
    for (const gd of document.querySelectorAll(".js-plotly-plot")) {
      if (!gd._fullLayout || gd.dataset.ink === ink || (!gd.dataset.ink && !isDark)) continue;
      gd.dataset.ink = ink;
      const look = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink };
      for (const name of Object.keys(gd._fullLayout)) {
        if (/^[xy]axis\d*$/.test(name)) Object.assign(look, { [`${name}.gridcolor`]: grid, [`${name}.zerolinecolor`]: grid });
      }
      (gd.layout.sliders || []).forEach((_, k) => { look[`sliders[${k}].currentvalue.font.color`] = ink; });
      (gd.layout.updatemenus || []).forEach((_, k) => { look[`updatemenus[${k}].font.color`] = isDark ? "#111111" : ink; });
      window.Plotly.relayout(gd, look);
    }
  };

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
        setTimeout(paint);
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
    for (const wide of document.querySelectorAll("article table, mjx-container[display='true'], article pre")) {
      if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0; // so that the arrow keys scroll it
    }
  };

  new MutationObserver(paint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  if (window.Plotly) drawWhenNear();
  window.addEventListener("load", () => { paint(); mend(); });
  window.addEventListener("resize", mend); // a narrower page has more that must scroll
})();

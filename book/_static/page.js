/* What every page of the book gets: plotly figures in the colours of its theme, and names and keys where the theme
   forgets them. */
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
  window.addEventListener("load", () => { paint(); mend(); setTimeout(paint, 800); });
})();

// Trivet's dashboard: the theme, the menu, charts, and parts that follow the results.
"use strict";
(() => {
  const script = document.currentScript;
  const root = document.documentElement;

  // The theme: the system's, or the visitor's choice.
  const stored = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("trivet-theme", value);
      return localStorage.getItem("trivet-theme");
    } catch { return null; }
  };
  const asked = new URLSearchParams(location.search).get("theme");
  const chosen = ["light", "dark"].includes(asked) ? asked : stored();
  if (chosen) root.dataset.theme = chosen;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  // Charts: a specification names the theme's colours, such as $accent.
  const views = new Map();
  let library;
  const vega = () => (library ??= new Promise((resolve, reject) => {
    const tag = document.createElement("script");
    tag.src = script.dataset.vega;
    tag.onload = () => resolve(window.vegaEmbed);
    tag.onerror = () => reject(new Error("the chart library was not loaded"));
    document.head.append(tag);
  }));
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const coloured = (part) => {
    if (typeof part === "string") {
      const name = /^\$(good|warn|bad|accent|muted|ink|line|surface|series-\d)$/.exec(part);
      return name ? colour(name[1]) : part;
    }
    if (Array.isArray(part)) return part.map(coloured);
    if (part && typeof part === "object") {
      return Object.fromEntries(Object.entries(part).map(
        ([key, value]) => [key, key === "datasets" ? value : coloured(value)]));
    }
    return part;
  };
  const series = () => Array.from({ length: 8 }, (_, i) => colour(`series-${i + 1}`));
  const theme = (width) => {
    // A legend above a narrow chart has lines of two, cut where it has to be.
    const narrow = width && width < 480 ? { columns: 2, labelLimit: width / 2 - 50, columnPadding: 8 } : {};
    const font = getComputedStyle(document.body).fontFamily;
    const text = { labelFont: font, titleFont: font, labelColor: colour("muted"), titleColor: colour("muted"), labelFontSize: 11, titleFontSize: 11, titleFontWeight: 500 };
    return {
      background: null, font, padding: { left: 2, right: 8, top: 6, bottom: 2 },
      view: { stroke: null },
      axis: { ...text, gridColor: colour("line"), domainColor: colour("line-strong"), tickColor: colour("line-strong"), gridOpacity: 0.8, labelPadding: 5, titlePadding: 8 },
      axisY: { domain: false, ticks: false },
      legend: { ...text, symbolType: "circle", orient: "top", title: null, offset: 6, symbolSize: 70, ...narrow },
      header: text, title: { ...text, color: colour("ink") },
      range: { category: series(), heatmap: [colour("accent-soft"), colour("series-1")], ramp: [colour("accent-soft"), colour("series-1")] },
      line: { strokeWidth: 2.2, color: colour("series-1") }, point: { size: 42, filled: true, color: colour("series-1") },
      area: { color: colour("series-1"), opacity: 0.25, line: { color: colour("series-1") } },
      bar: { color: colour("series-1") }, rect: { color: colour("series-1") }, rule: { color: colour("muted") }, tick: { color: colour("series-1") },
      text: { color: colour("ink"), font },
    };
  };
  const drawOne = async (place) => {
    const source = place.querySelector('script[type="application/json"]');
    if (!source) return;
    const text = source.textContent;
    try {
      const embed = await vega();
      let canvas = place.querySelector(".canvas");
      if (!canvas) {
        canvas = document.createElement("div");
        canvas.className = "canvas";
        place.append(canvas);
      }
      views.get(place)?.finalize();
      const result = await embed(canvas, coloured(JSON.parse(text)), {
        ast: true, actions: false, renderer: "svg", defaultStyle: false, config: theme(canvas.clientWidth),
        tooltip: { disableDefaultStyle: true }, mode: "vega-lite",
      });
      views.set(place, result);
      place.dataset.drawn = "";
    } catch (error) {
      place.classList.add("chart-failed");
      place.append(`This chart cannot be drawn: ${error.message}`);
    }
  };
  const draw = (within) => Promise.all([...within.querySelectorAll("[data-chart]")].map(drawOne));
  const tidy = () => {
    for (const [place, view] of views) {
      if (!place.isConnected) { view.finalize(); views.delete(place); }
    }
  };
  const redraw = () => draw(document);

  // Parts of the page that change with the results. What a visitor opened or typed stays.
  const html = new Map();
  const remember = (doc) => {
    for (const part of doc.querySelectorAll("[data-part]")) html.set(part.id, part.outerHTML);
  };
  const busy = (part) => part.contains(document.activeElement)
    && document.activeElement.matches("input, select, textarea");
  const replace = (old, fresh) => {
    const open = [...old.querySelectorAll("details")].map((d) => d.open);
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [...old.querySelectorAll("a, button, summary, [tabindex]")].indexOf(focused);
    const made = document.importNode(fresh, true);
    old.replaceWith(made);
    [...made.querySelectorAll("details")].forEach((d, i) => { d.open = open[i] ?? d.open; });
    if (focused) made.querySelectorAll("a, button, summary, [tabindex]")[place]?.focus({ preventScroll: true });
    made.classList.add("fresh");
    return draw(made);
  };
  const whole = (doc) => {
    document.querySelector("main").replaceWith(document.importNode(doc.querySelector("main"), true));
    document.body.toggleAttribute("data-waits", doc.body.hasAttribute("data-waits"));
    const menu = doc.getElementById("menu");
    if (menu) document.getElementById("menu").innerHTML = menu.innerHTML;
    document.title = doc.title;
    html.clear();
    remember(document);
    return draw(document);
  };
  let fetching = false, again = false;
  const refresh = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      // What a page chose by itself when it was opened, it goes on showing.
      const address = new URL(location.href);
      const shown = document.querySelector("#filters [name=deployment]");
      if (shown && !address.searchParams.has("deployment")) address.searchParams.set("deployment", shown.value);
      const answer = await fetch(address, { headers: { Accept: "text/html" }, cache: "no-cache" });
      if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
      const doc = new DOMParser().parseFromString(await answer.text(), "text/html");
      const ids = (d) => [...d.querySelectorAll("[data-part]")].map((p) => p.id).join();
      if (ids(doc) !== ids(document)) {
        if (!busy(document.querySelector("main"))) await whole(doc);
      } else {
        for (const fresh of doc.querySelectorAll("[data-part]")) {
          const old = document.getElementById(fresh.id);
          if (html.get(fresh.id) === fresh.outerHTML || busy(old)) continue;
          html.set(fresh.id, fresh.outerHTML);
          await replace(old, fresh);
        }
      }
      tidy();
      document.body.dataset.marker = doc.body.dataset.marker ?? "";
    } catch { /* the server is away: the stream tells, and comes back by itself */ } finally {
      fetching = false;
      if (again) { again = false; refresh(); }
    }
  };
  const live = document.querySelector(".live");
  const say = (state, text) => {
    if (!live || live.dataset.liveState === state) return;
    live.dataset.liveState = state;
    live.querySelector("[data-live-text]").textContent = text;
  };
  const listen = () => {
    const stream = new EventSource("/live");
    let first = true, lost = false;
    stream.addEventListener("open", () => { say("on", "live"); if (lost) refresh(); lost = false; });
    stream.addEventListener("error", () => { say("lost", "waiting for the server"); lost = true; });
    stream.addEventListener("change", (event) => {
      if (first && event.data === document.body.dataset.marker) { first = false; return; }
      first = false;
      if (document.hidden) { again = true; return; }
      refresh();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && again) { again = false; refresh(); }
    });
  };
  // A page that only tells what is the matter looks again by itself.
  setInterval(() => { if (document.body.hasAttribute("data-waits") && !document.hidden) refresh(); }, 3000);
  // Times such as "3 min ago" grow old too.
  setInterval(() => { if (!document.hidden && document.querySelector("time")) refresh(); }, 60000);

  const start = () => {
    remember(document);
    redraw();
    if (!document.querySelector('form[action="/login"]')) listen();
    systemDark.addEventListener("change", redraw);
    document.addEventListener("click", async (event) => {
      const on = (selector) => event.target.closest(selector);
      if (on("[data-theme-toggle]")) {
        root.dataset.theme = isDark() ? "light" : "dark";
        stored(root.dataset.theme);
        redraw();
      }
      const button = on("[data-menu]");
      if (button) {
        const open = document.getElementById("menu").classList.toggle("open");
        button.setAttribute("aria-expanded", String(open));
      }
      const copy = on("[data-copy]");
      if (copy) {
        try { await navigator.clipboard.writeText(copy.dataset.copy); copy.textContent = "Copied"; } catch { copy.textContent = "Select it"; }
        setTimeout(() => { copy.textContent = "Copy"; }, 1500);
      }
    });
    document.addEventListener("change", (event) => {
      const field = event.target.closest("[data-submit]");
      if (field) field.form.requestSubmit();
    });
    // Filters that were left empty need not stand in the address.
    document.addEventListener("submit", (event) => {
      if (event.target.method !== "get") return;
      for (const field of event.target.elements) if (field.name && field.value === "") field.disabled = true;
    });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();

// The page: choose a route, request a ride, and show what becomes known of it as it comes.

const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const nameOf = (zone) => facts.names[zone] ?? `Zone ${zone}`;
const dollars = (value) => `$${value.toFixed(2)}`;
const short = (value) => (Number.isInteger(value) ? `$${value}` : dollars(value));
const LATE = 6000;
const TRIES = 4;

const form = $("#ask");
const pickup = $("#pickup");
const dropoff = $("#dropoff");
const rides = new Map();
const tips = new Map();
const shownSince = new Map();

// Choosing the route

const tiles = [...document.querySelectorAll(".zone")];
const labels = new Map([...document.querySelectorAll("[data-label]")].map((text) => [text.dataset.label, text]));
const line = $(".way path");
let centres = new Map(tiles.map((tile) => [tile.dataset.zone, centre(tile)]));
const WIDEST = 84;

// A name too wide for its tile in this browser's font is drawn narrower.
for (const name of document.querySelectorAll("#labels tspan")) {
  if (name.getComputedTextLength() <= WIDEST) continue;
  name.setAttribute("textLength", WIDEST);
  name.setAttribute("lengthAdjust", "spacingAndGlyphs");
}

function centre(tile) {
  const shift = tile.transform.baseVal.consolidate()?.matrix ?? { e: 0, f: 0 };
  const box = tile.lastElementChild.getBBox();
  return { x: shift.e + box.x + box.width / 2, y: shift.f + box.y + box.height / 2 };
}

function choose(zone) {
  if (!pickup.value || (pickup.value && dropoff.value)) {
    pickup.value = zone;
    dropoff.value = "";
  } else {
    dropoff.value = zone;
  }
  routeChanged();
}

function routeChanged() {
  problem("");
  $("#hint").textContent = !pickup.value
    ? "Tap where the ride starts, then where it ends."
    : !dropoff.value
      ? `From ${nameOf(pickup.value)}. Now tap where the ride ends.`
      : `${nameOf(pickup.value)} to ${nameOf(dropoff.value)}`;
  draw();
}

function way(from, to) {
  const a = centres.get(String(from));
  const b = centres.get(String(to));
  if (!a || !b || a === b) return "";
  const bend = 0.16;
  const x = (a.x + b.x) / 2 + (b.y - a.y) * bend;
  const y = (a.y + b.y) / 2 - (b.x - a.x) * bend;
  return `M${a.x} ${a.y}Q${x} ${y} ${b.x} ${b.y}`;
}

// The route that is being chosen, or else the one of the ride under way.
function draw() {
  const choosing = pickup.value || dropoff.value;
  const riding = choosing ? null : active()[0];
  const from = riding ? String(riding.pickup_zone) : pickup.value;
  const to = riding ? String(riding.dropoff_zone) : dropoff.value;
  line.setAttribute("d", way(from, to));
  $("#route").classList.toggle("riding", Boolean(riding && way(from, to)));
  for (const tile of tiles) {
    const zone = tile.dataset.zone;
    for (const shape of [tile, labels.get(zone)]) {
      shape.classList.toggle("from", zone === from);
      shape.classList.toggle("to", zone === to && zone !== from);
    }
    tile.setAttribute("aria-pressed", String(zone === pickup.value || zone === dropoff.value));
  }
}

for (const select of [pickup, dropoff]) select.addEventListener("change", routeChanged);

$("#swap").addEventListener("click", () => {
  [pickup.value, dropoff.value] = [dropoff.value, pickup.value];
  routeChanged();
});

$("#map").addEventListener("click", (event) => {
  const tile = event.target.closest(".zone");
  if (tile) choose(tile.dataset.zone);
});

// One tile is in the order of the Tab key; the arrows go on from there.
tiles[0].tabIndex = 0;
$("#map").addEventListener("keydown", (event) => {
  const tile = event.target.closest(".zone");
  if (!tile) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(tile.dataset.zone);
    return;
  }
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = neighbour(tile, step);
  if (!next) return;
  tile.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

function neighbour(tile, [dx, dy]) {
  const here = centres.get(tile.dataset.zone);
  let best = null;
  let least = Infinity;
  for (const other of tiles) {
    const there = centres.get(other.dataset.zone);
    const along = (there.x - here.x) * dx + (there.y - here.y) * dy;
    const aside = Math.abs((there.x - here.x) * dy) + Math.abs((there.y - here.y) * dx);
    if (other === tile || along <= 1) continue;
    const far = along + 2.5 * aside;
    if (far < least) [least, best] = [far, other];
  }
  return best;
}

// What was chosen last time

for (const [name, value] of Object.entries(JSON.parse(localStorage.getItem("choices") ?? "{}"))) {
  if (form.elements[name]) form.elements[name].value = value;
}

// Requesting a ride

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const missing = [pickup, dropoff].find((select) => !select.value);
  if (missing) {
    problem(missing === pickup ? "Choose where the ride starts." : "Choose where the ride ends.");
    missing.focus();
    return;
  }
  problem("");
  const data = new FormData(form);
  const choices = { passengers: data.get("passengers"), payment: data.get("payment") };
  localStorage.setItem("choices", JSON.stringify(choices));
  const button = $("#request");
  button.setAttribute("aria-busy", "true");
  try {
    const ride = await post("/api/rides", {
      // Our own id: asking again after a lost answer gives the same ride.
      ride_id: [...crypto.getRandomValues(new Uint8Array(12))]
        .map((byte) => byte.toString(16).padStart(2, "0"))
        .join(""),
      pickup_zone: Number(pickup.value),
      dropoff_zone: Number(dropoff.value),
      passengers: Number(choices.passengers),
      payment: choices.payment,
    });
    pickup.value = dropoff.value = "";
    keep(ride);
    routeChanged();
    $(".ride", $("#rides"))?.scrollIntoView({ block: "nearest", behavior: "smooth" });
  } catch (error) {
    problem(error.message);
  } finally {
    button.removeAttribute("aria-busy");
  }
});

function problem(text) {
  $("#problem").textContent = text;
  $("#problem").hidden = !text;
}

async function post(path, body) {
  for (let attempt = 1; ; attempt++) {
    let reply;
    try {
      reply = await fetch(path, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
    } catch {
      if (attempt === TRIES) throw new Error("There is no connection. Try again in a moment.");
      await new Promise((done) => setTimeout(done, 400 * attempt));
      continue;
    }
    const told = await reply.json().catch(() => ({}));
    if (reply.ok) return told;
    throw new Error(told.detail ?? `That did not work (${reply.status}).`);
  }
}

// Showing rides

const active = () => [...rides.values()].filter((ride) => !ride.ended).sort(latestFirst);
const latestFirst = (a, b) => b.requested_at.localeCompare(a.requested_at);

function keep(ride) {
  if (!shownSince.has(ride.ride_id)) shownSince.set(ride.ride_id, Date.now());
  const known = rides.get(ride.ride_id);
  const answers = { ...known?.answers, ...ride.answers };
  rides.set(ride.ride_id, { ...ride, answers, ended: ride.ended ?? known?.ended ?? null });
  show();
}

function show() {
  const all = [...rides.values()].sort(latestFirst);
  const open = all.filter((ride) => !ride.ended);
  const last = all.find((ride) => ride.ended);
  const cards = open.length ? open.slice(0, 4) : last ? [last] : [];
  const home = $("#rides");
  for (const card of [...home.children]) {
    if (!cards.some((ride) => ride.ride_id === card.dataset.ride)) card.remove();
  }
  cards.forEach((ride, place) => {
    let card = $(`[data-ride="${ride.ride_id}"]`, home);
    if (!card) card = newCard(ride);
    if (home.children[place] !== card) home.insertBefore(card, home.children[place] ?? null);
    fill(card, ride);
  });
  const past = all.filter((ride) => ride.ended && !cards.includes(ride)).slice(0, 10);
  $("#past").hidden = !past.length;
  $("#past ol").replaceChildren(
    ...past.map((ride) => {
      const item = document.createElement("li");
      item.append(
        element("span", `${nameOf(ride.pickup_zone)} → ${nameOf(ride.dropoff_zone)}`),
        element("span", `${Math.round(ride.ended.duration_minutes)} min · ${dollars(ride.ended.total)}`),
      );
      return item;
    }),
  );
  draw();
}

function newCard(ride) {
  const card = $("#card-template").content.firstElementChild.cloneNode(true);
  card.dataset.ride = ride.ride_id;
  $(".end", card).addEventListener("click", () => end(ride.ride_id));
  return card;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function fill(card, ride) {
  const { duration, fare, ended } = ride;
  card.classList.toggle("over", Boolean(ended));
  $("h2", card).textContent = `${nameOf(ride.pickup_zone)} → ${nameOf(ride.dropoff_zone)}`;
  const minutes = $(".minutes strong", card);
  minutes.textContent = Math.max(1, Math.round(ended ? ended.duration_minutes : duration.value));
  minutes.dataset.value = duration.value;
  const price = $(".price strong", card);
  price.textContent = dollars(ended ? ended.total : fare.value);
  price.dataset.value = fare.value;
  $(".price span", card).textContent = ended ? "in all" : "on the meter";
  $(".fallback", card).hidden = ended || (duration.source === "model" && fare.source === "model");
  $(".state", card).textContent = ended ? "Arrived" : "On the way";
  $(".progress", card).hidden = Boolean(ended);
  $(".actions", card).hidden = Boolean(ended);
  for (const row of card.querySelectorAll(".later")) fillLater(row, ride);
}

function fillLater(row, ride) {
  const kind = row.dataset.kind;
  const answer = ride.answers[kind];
  const text = $("dd", row);
  const state = JSON.stringify([answer ?? null, ride.ended, tips.get(ride.ride_id) ?? null, late(ride)]);
  if (row.dataset.shown === state) return;
  row.dataset.shown = state;
  row.classList.toggle("here", Boolean(answer));
  row.hidden = false;
  if (kind === "tip" && (ride.payment === "cash" || ride.ended)) {
    row.hidden = ride.ended && ride.payment === "cash";
    text.replaceChildren(
      ride.payment === "cash" ? element("small", "in cash, as you like") : element("span", dollars(ride.ended.tip)),
    );
  } else if (!answer) {
    row.hidden = Boolean(ride.ended);
    text.replaceChildren(
      late(ride) ? element("small", "comes later") : element("span", "", { class: "wait", role: "img", "aria-label": "coming" }),
    );
  } else if (kind === "better-duration") {
    text.replaceChildren(
      element("strong", `${Math.round(answer.duration_minutes)} min`, { "data-value": answer.duration_minutes }),
      element("small", ` · ${Math.round(answer.duration_low)} to ${Math.round(answer.duration_high)}`),
    );
  } else if (kind === "final-cost") {
    text.replaceChildren(
      element("strong", dollars(answer.cost), { "data-value": answer.cost }),
      element("small", ` · $${Math.round(answer.cost_low)} to $${Math.round(answer.cost_high)}`),
    );
  } else {
    text.replaceChildren(chips(ride, answer));
  }
}

function chips(ride, answer) {
  const half = (value) => Math.max(0.5, Math.round(value * 2) / 2);
  const amounts = [...new Set([0, half(answer.tip_low), half(answer.tip), half(answer.tip_high)])];
  const row = element("div", "", { class: "chips", role: "group", "aria-label": "Tip" });
  for (const amount of amounts) {
    const label = amount ? short(amount) : "None";
    const chip = element("button", label, {
      type: "button",
      "aria-pressed": String(tips.get(ride.ride_id) === amount),
    });
    chip.addEventListener("click", () => {
      tips.set(ride.ride_id, amount);
      for (const other of row.children) other.setAttribute("aria-pressed", String(other === chip));
    });
    row.append(chip);
  }
  return row;
}

async function end(ride_id) {
  try {
    keep(await post(`/api/rides/${ride_id}/end`, { tip: tips.get(ride_id) ?? 0 }));
  } catch (error) {
    problem(error.message);
  }
}

const late = (ride) => !ride.ended && Date.now() - shownSince.get(ride.ride_id) > LATE;

function move() {
  const open = active();
  for (const ride of open) {
    const card = $(`[data-ride="${ride.ride_id}"]`);
    if (!card) continue;
    const best = ride.answers["better-duration"]?.duration_minutes ?? ride.duration.value;
    const share = Math.min(1, ((Date.now() - Date.parse(ride.pickup_at)) / 60000) * facts.timeLapse / best);
    $(".progress", card).setAttribute("aria-valuenow", String(Math.round(100 * share)));
    $(".progress span", card).style.transform = `scaleX(${share})`;
    $(".state", card).textContent = share < 1 ? `${Math.max(1, Math.ceil(best * (1 - share)))} min left` : "Arriving";
    for (const row of card.querySelectorAll(".later")) fillLater(row, ride);
    if (ride === open[0] && !pickup.value && !dropoff.value) place(share);
  }
}

function place(share) {
  if (!line.getAttribute("d")) return;
  const at = line.getPointAtLength(line.getTotalLength() * share);
  $("#route .car").setAttribute("transform", `translate(${at.x} ${at.y})`);
}

setInterval(move, 200);

// Live news

function connect() {
  const source = new EventSource("/api/events");
  source.addEventListener("rides", (event) => {
    link("live", "live");
    for (const ride of JSON.parse(event.data)) keep(ride);
  });
  source.addEventListener("ride", (event) => keep(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    link("lost", "reconnecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1500);
  });
}

function link(state, text) {
  $("#link").dataset.state = state;
  $("#link .text").textContent = text;
}

// The real outlines, where somebody has made them

async function outline() {
  const outlines = await (await fetch("/api/outlines")).json();
  if (!outlines) return;
  const map = $("#map");
  map.setAttribute("viewBox", outlines.view.join(" "));
  map.classList.add("outlined");
  $("#water").remove();
  for (const tile of tiles) {
    const shape = outlines.zones[tile.dataset.zone];
    if (!shape) continue;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", shape);
    tile.removeAttribute("transform");
    $("rect", tile).replaceWith(path);
  }
  centres = new Map(tiles.map((tile) => [tile.dataset.zone, centre(tile)]));
  draw();
}

routeChanged();
connect();
outline();

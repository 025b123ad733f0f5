// Clips on a plane, like beside like: drag moves, the wheel scales, a lasso selects.
import {$, ask, cell, count, el, fill, filter, filtered, json, number, take} from "./core.js";

const COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#ff9da7", "#9c755f", "#86bcb6", "#d37295", "#a0cbe8"];
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];  // viridis
const GREY = [140, 143, 152];
const rgb = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
const points = $("points"), over = $("over");
let n = [], x = [], y = [], cluster = [], codes = [], palette = [], fits = null, view = {x: 0, y: 0, scale: 1}, drawn = [], hover = -1, frame = {x: 0, y: 0, w: 2, h: 2};

export async function show(about) {
  if (!about.vectors.length) {
    $("plane").hidden = true;
    $("caught").replaceChildren();
    $("placed").textContent = "No stage gives a vector, so there is no map. Write derived=(SelfSupervised(),) in the recipe's Curation, with SelfSupervised from diorama.data.embed, and curate again.";
    return;
  }
  if (!$("vector").length) {
    $("vector").append(...about.vectors.map(name => new Option(name)));
    $("colour").append(new Option("clusters", ""), ...about.words.map(name => new Option(name)), ...about.measures.map(name => new Option(name)));
    new ResizeObserver(draw).observe($("plane"));
  }
  $("vector").onchange = place;
  $("colour").onchange = colour;
  $("lasso").onclick = () => lasso($("lasso").ariaPressed !== "true");
  $("whole").onclick = () => { view = {x: frame.x, y: frame.y, scale: 1}; draw(); };
  if (!n.length) await place(); else await match();
}
const lasso = on => { $("lasso").ariaPressed = String(on); over.classList.toggle("lasso", on); };

async function place() {
  $("placed").textContent = "laying out the map …";
  const data = await (await ask("map?" + new URLSearchParams({vector: $("vector").value}))).arrayBuffer();
  const p = new DataView(data).getUint32(0, true);
  n = new Int32Array(data, 4, p); x = new Float32Array(data, 4 + 4 * p, p); y = new Float32Array(data, 4 + 8 * p, p);
  cluster = new Uint8Array(data, 4 + 12 * p, p);
  const least = [Infinity, Infinity], most = [-Infinity, -Infinity];
  for (let i = 0; i < p; i++) { least[0] = Math.min(least[0], x[i]); most[0] = Math.max(most[0], x[i]); least[1] = Math.min(least[1], y[i]); most[1] = Math.max(most[1], y[i]); }
  frame = {x: (least[0] + most[0]) / 2 || 0, y: (least[1] + most[1]) / 2 || 0, w: most[0] - least[0] || 2, h: most[1] - least[1] || 2};
  view = {x: frame.x, y: frame.y, scale: 1};
  if (!$("caught").childElementCount) $("caught").replaceChildren(el("p", {className: "hint", textContent: "Draw a lasso around clips to see them here and in the grid. Near the pointer a clip shows itself."}));
  await match(false);
  await colour();
}
async function match(redraw = true) {
  const whole = !Object.entries(filter).some(([key, value]) => value !== "" && value !== null && key !== "measure");
  fits = whole ? null : new Uint8Array(await (await ask("map/matching?" + filtered({vector: $("vector").value}))).arrayBuffer());
  const fit = fits ? fits.reduce((sum, one) => sum + one, 0) : n.length;
  $("placed").textContent = fits ? `${count(fit)} of ${count(n.length)} clips` : `${count(n.length)} clips`;
  if (redraw) draw();
}
async function colour() {
  const by = $("colour").value, legend = $("legend");
  if (!by) {
    [codes, palette] = [cluster, COLOURS.map(rgb)];
    legend.replaceChildren(el("div", {textContent: "clusters of k-means"}));
  } else {
    const found = await json("map/colours?" + new URLSearchParams({vector: $("vector").value, by}));
    codes = Uint8Array.from({length: n.length}, (_, i) => parseInt(found.codes.slice(2 * i, 2 * i + 2), 16));
    if (found.values) {
      const colours = by === "verdict" ? found.values.map(value => value === "keep" ? "#2fa866" : "#e0554b") : COLOURS;
      palette = colours.map(rgb);
      legend.replaceChildren(...found.values.map((value, i) => { const dot = el("i"); dot.style.background = colours[i]; return el("div", {}, dot, value); }));
    } else {
      palette = Array.from({length: 255}, (_, i) => { const at = i / 254 * (RAMP.length - 1), k = Math.min(Math.floor(at), RAMP.length - 2); return RAMP[k].map((c, j) => c + (at - k) * (RAMP[k + 1][j] - c)); });
      const ramp = el("canvas", {width: 255, height: 1}), pen = ramp.getContext("2d");
      palette.forEach((c, i) => { pen.fillStyle = `rgb(${c.join(" ")})`; pen.fillRect(i, 0, 1, 1); });
      legend.replaceChildren(el("div", {}, number(found.low), ramp, number(found.high)));
    }
  }
  draw();
}

// Between positions and pixels of the canvas: at scale 1 all points fit.
const half = () => 0.94 * view.scale * Math.min(points.width / frame.w, points.height / frame.h);
const toX = px => (px - points.width / 2) / half() + view.x, toY = py => -(py - points.height / 2) / half() + view.y;

let waiting = 0;
function draw() { if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; paint(); }); }
function paint() {
  const {clientWidth, clientHeight} = $("plane"), dense = devicePixelRatio;
  if (!clientWidth || !n.length) return;
  for (const canvas of [points, over]) { const w = Math.round(clientWidth * dense), h = Math.round(clientHeight * dense); if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; } }
  const {width, height} = points, pen = points.getContext("2d"), image = pen.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), size = Math.max(2, Math.round(dense * Math.min(9, (n.length > 50000 ? 1.6 : n.length > 5000 ? 2.6 : 7) * Math.sqrt(view.scale))));
  const pack = ([r, g, b], a) => (a << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r);
  const colours = new Uint32Array(256).fill(pack(GREY, 130));
  palette.forEach((c, i) => { colours[i] = pack(c, 235); });
  const dim = pack(GREY, 45), k = half(), cx = width / 2 - view.x * k, cy = height / 2 + view.y * k, reach = size >> 1;
  drawn = new Int32Array(width * height >> 6);  // the last point in each box of 8 x 8 pixels, plus one: found by the pointer
  const boxes = width >> 3;
  for (const lit of fits ? [0, 1] : [1]) for (let i = 0; i < n.length; i++) {
    if (fits && fits[i] !== lit) continue;
    const px = Math.round(cx + x[i] * k), py = Math.round(cy - y[i] * k);
    if (px < reach || py < reach || px >= width - reach - 1 || py >= height - reach - 1) continue;
    const c = lit ? colours[codes[i]] : dim;
    for (let v = -reach; v < size - reach; v++) { const line = (py + v) * width + px; for (let u = -reach; u < size - reach; u++) if (size < 4 || Math.abs(u) + Math.abs(v) < 2 * reach) pixels[line + u] = c; }
    if (lit) drawn[(py >> 3) * boxes + (px >> 3)] = i + 1;
  }
  pen.putImageData(image, 0, 0);
}

const at = event => { const box = over.getBoundingClientRect(); return [(event.clientX - box.left) * points.width / box.width, (event.clientY - box.top) * points.height / box.height]; };
let drag = null;
over.onpointerdown = event => {
  over.setPointerCapture(event.pointerId);
  const [px, py] = at(event);
  drag = {loop: $("lasso").ariaPressed === "true" || event.shiftKey ? [[px, py]] : null, px, py, x: view.x, y: view.y};
  $("near").hidden = true;
};
over.onpointermove = event => {
  const [px, py] = at(event);
  if (!drag) { near(event, px, py); return; }
  if (drag.loop) {
    drag.loop.push([px, py]);
    const pen = over.getContext("2d");
    pen.clearRect(0, 0, over.width, over.height);
    pen.beginPath();
    drag.loop.forEach(([u, v], i) => i ? pen.lineTo(u, v) : pen.moveTo(u, v));
    pen.closePath();
    Object.assign(pen, {lineWidth: 2 * devicePixelRatio, strokeStyle: "#7d86ff", fillStyle: "#7d86ff33"});
    pen.fill();
    pen.stroke();
  } else { view.x = drag.x - (px - drag.px) / half(); view.y = drag.y + (py - drag.py) / half(); draw(); }
};
over.onpointerup = async () => {
  const loop = drag?.loop;
  drag = null;
  if (!loop || loop.length < 3) return;
  const every = Math.ceil(loop.length / 1000);
  const found = await json("map/lasso", {vector: $("vector").value, polygon: loop.filter((_, i) => i % every === 0).map(([px, py]) => [toX(px), toY(py)])});
  over.getContext("2d").clearRect(0, 0, over.width, over.height);
  lasso(false);
  await caught(found);
};
over.onpointerleave = () => { $("near").hidden = true; hover = -1; };
over.addEventListener("wheel", event => {
  event.preventDefault();
  const [px, py] = at(event), [ax, ay] = [toX(px), toY(py)];
  view.scale = Math.min(200, Math.max(0.5, view.scale * 1.0015 ** -event.deltaY));
  view.x += ax - toX(px); view.y += ay - toY(py);
  draw();
}, {passive: false});

async function near(event, px, py) {
  const boxes = points.width >> 3;
  let found = 0;
  for (let v = -1; v <= 1 && !found; v++) for (let u = -1; u <= 1 && !found; u++) found = drawn[((py >> 3) + v) * boxes + (px >> 3) + u] || 0;
  const show = $("near"), plane = $("plane").getBoundingClientRect();
  if (!found) { show.hidden = true; hover = -1; return; }
  show.style.left = `${Math.min(event.clientX - plane.left + 14, plane.width - 165)}px`;
  show.style.top = `${Math.min(event.clientY - plane.top + 14, plane.height - 190)}px`;
  if (hover === found) return;
  const mine = hover = found, row = (await json(`item/${n[found - 1]}`)).row;
  if (mine !== hover) return;
  const figure = cell(row);
  show.replaceChildren(...figure.children);
  show.className = row.verdict;
  show.hidden = false;
  fill([show.querySelector("img")]);
}

async function caught(found) {
  const select = () => document.dispatchEvent(new CustomEvent("narrow", {detail: {selection: found.selection, called: `${count(found.items)} clips of the map`}}));
  const page = found.items ? await json("items?" + new URLSearchParams({selection: found.selection, sort: "random", limit: 60})) : {rows: []};
  const figures = page.rows.map(row => cell(row));
  $("caught").replaceChildren(el("p", {}, el("b", {textContent: count(found.items)}), ` clips inside${found.items > 60 ? "; 60 of them:" : ""}`),
    ...(found.items ? [el("button", {className: "main", id: "to-grid", textContent: "show them in the grid", onclick: select})] : []), el("div", {className: "strip"}, ...figures));
  await take(figures, () => 3);
}

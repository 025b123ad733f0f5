// The page: its views, the filter at the left, and keys.
import {$, bars, choose, chosen, count, el, filter, json, judge, list, number, relook} from "./core.js";
import * as grid from "./grid.js";
import * as item from "./item.js";
import * as map from "./map.js";
import * as sample from "./sample.js";
import * as threshold from "./threshold.js";
import * as versions from "./versions.js";

const VIEWS = {grid: "Grid", threshold: "Threshold", map: "Map", duplicates: "Duplicates", compare: "Compare", sample: "Random 100"};
let about = null, view = "";

async function show(name) {
  if (name.includes("=")) asked(new URLSearchParams(name));
  view = name in VIEWS ? name : "grid";
  if (location.hash.slice(1) !== view) history.replaceState(null, "", `#${view}`);
  for (const other of Object.keys(VIEWS)) $(`${other}-view`).hidden = other !== view;
  for (const button of $("views").children) button.setAttribute("aria-current", button.name === view ? "page" : "false");
  list.figures = [];
  await ({grid: () => grid.show(), threshold: () => threshold.show(about, filter.measure), map: () => map.show(about), duplicates: () => versions.duplicates(about), compare: () => versions.compare(), sample: () => sample.show()})[view]();
}

async function refresh() {
  about = await json("about");
  const parts = about.path.split("/").filter(Boolean);
  Object.assign($("path"), {textContent: parts.at(-1), title: about.path});
  $("about").textContent = `${count(about.items)} items, manifest ${about.hash.slice(0, 8)}`;
  const line = (text, n, verdict, reason) => {
    const button = el("button", {title: text, onclick: () => { Object.assign(filter, {verdict, reason}); narrowed(); }}, el("i", {className: verdict}), el("span", {textContent: text}), el("span", {textContent: count(n)}));
    return Object.assign(button, {verdict, reason});
  };
  const total = verdict => about.reasons.filter(r => r.verdict === verdict).reduce((sum, r) => sum + r.n, 0);
  $("reasons").replaceChildren(line("everything", about.items, "", ""), line("kept", total("keep"), "keep", ""), line("left out", total("drop"), "drop", ""),
    ...about.reasons.filter(r => r.verdict === "drop" || r.reason !== "sound and unlike the others").map(r => line(r.reason, r.n, r.verdict, r.reason)));
  marked();
  if ($("measure").length === 1) $("measure").append(...about.measures.map(name => new Option(name)));
  if ($("by").length === 1) $("by").append(...about.words.map(name => new Option(name.replace("_", " "), name)), ...about.measures.map(name => new Option(name)));
  $("classes").replaceChildren(...about.classes.map(name => new Option(name)));
  $("labels").hidden = !about.classes.length;
  $("keys").replaceChildren(...about.classes.slice(0, 9).map((name, i) => el("button", {title: `label as ${name}`, onclick: () => judge(rows(), "label", name)}, el("span", {textContent: name}), el("kbd", {textContent: i + 1}))));
}
const rows = () => chosen().map(figure => figure.row);

// A filter by address, as the report of a curation has them behind its numbers: #verdict=drop&reason=dark.
function asked(given) {
  for (const key of Object.keys(filter)) {
    const value = given.get(key);
    filter[key] = ["low", "high"].includes(key) ? (value ? +value : null) : key === "equals" ? value : value ?? "";
  }
  $("words").value = filter.words;
  $("measure").value = filter.measure;
  $("low").value = filter.low ?? ""; $("high").value = filter.high ?? "";
  measured(false);
  marked();
}

// The filter changed: the views that follow it are shown anew, from the others the grid opens.
function marked() {
  const chip = filter.selection ? filter.called : filter.column ? `${filter.column.replace("_", " ")}: ${filter.equals ?? "none"}` : "";
  $("chip").hidden = !chip;
  $("chip").firstElementChild.textContent = chip;
  for (const button of $("reasons").children) button.setAttribute("aria-pressed", button.verdict === filter.verdict && button.reason === filter.reason);
}
async function narrowed() {
  marked();
  await show(["grid", "map"].includes(view) ? view : "grid");
}
document.addEventListener("narrow", event => {
  Object.assign(filter, {selection: "", column: "", equals: null}, event.detail);
  if (event.detail.selection) view = "grid";
  if (event.detail.measure) { $("measure").value = filter.measure; $("low").value = filter.low; $("high").value = filter.high; measured(false); }
  narrowed();
});
$("chip").lastElementChild.onclick = () => { Object.assign(filter, {selection: "", column: "", equals: null}); narrowed(); };

async function measured(fresh = true) {
  const measure = filter.measure = $("measure").value;
  $("histogram").hidden = $("bounds").hidden = !measure;
  if (fresh) { $("low").value = $("high").value = ""; filter.low = filter.high = null; }
  if (measure) {
    const seen = await json("histogram?" + new URLSearchParams({of: measure}));
    bars($("histogram"), seen);
    $("low").placeholder = number(seen.least); $("high").placeholder = number(seen.most);
    if (fresh && $("sort").value === "location") $("sort").value = "up";
  }
  if (fresh) narrowed();
}

const person = $("person"), size = $("size"), root = document.documentElement;
person.value = localStorage.getItem("person") || "";
person.onchange = () => localStorage.setItem("person", person.value);
size.value = localStorage.getItem("size") || 140;
const resize = () => { root.style.setProperty("--cell", `${size.value}px`); localStorage.setItem("size", size.value); relook(); };
size.oninput = resize;
resize();
if (localStorage.getItem("theme")) root.dataset.theme = localStorage.getItem("theme");
$("theme").onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  if (view === "threshold") threshold.show(about);
};
$("help").onclick = () => $("keyboard").showModal();
$("measure").onchange = () => measured();
$("sort").onchange = $("by").onchange = () => show("grid");
let typing;
const typed = (id, key, read) => $(id).addEventListener("input", () => { filter[key] = read($(id).value); clearTimeout(typing); typing = setTimeout(narrowed, 120); });
typed("words", "words", text => text.trim());
for (const bound of ["low", "high"]) typed(bound, bound, text => text === "" ? null : +text);
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
document.addEventListener("open-clip", item.open);
$("views").append(...Object.entries(VIEWS).map(([name, text]) => el("button", {name, textContent: text, onclick: () => show(name)})));
window.onhashchange = () => show(location.hash.slice(1));

async function say(verdict) {
  const inDialog = $("open").open;
  await judge(rows(), verdict);
  choose(Math.max(list.at, list.from) + (view === "duplicates" || inDialog ? 0 : 1));
  if (inDialog) item.open();
}
const step = (by, several) => { if (document.activeElement.tagName === "BUTTON") document.activeElement.blur(); choose(list.at + by, several); if ($("open").open) item.open(); };

// A button that was clicked lets go of the keyboard: Enter is for the clip that is chosen. One reached by Tab keeps it.
document.addEventListener("click", event => { if (event.detail) event.target.closest("button")?.blur(); });

document.addEventListener("keydown", event => {
  if (/INPUT|SELECT|TEXTAREA/.test(event.target.tagName) && event.target.type !== "range") { if (["Escape", "Enter"].includes(event.key)) event.target.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || $("edit").open || $("keyboard").open) return;
  if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
  if (event.target.tagName === "BUTTON" && event.key === "Enter") return;
  const name = about.classes[event.key - 1], several = event.shiftKey;
  const asking = view === "sample" && {k: () => sample.answer("keep"), d: () => sample.answer("drop"), u: () => sample.answer("undo"), s: () => sample.answer("skip")};
  const keys = {
    ArrowRight: () => step(1, several), ArrowLeft: () => step(-1, several), ArrowDown: () => step(list.across(), several), ArrowUp: () => step(-list.across(), several),
    k: () => say("keep"), d: () => say("drop"), u: () => say("undo"), c: item.write, l: item.label, Enter: item.open,
    n: () => view === "duplicates" ? versions.turn(about, 1) : view === "grid" && grid.turn(1), p: () => view === "duplicates" ? versions.turn(about, -1) : view === "grid" && grid.turn(-1),
    "/": () => $("words").focus(), "?": () => $("keyboard").showModal(), g: () => show("grid"), t: () => show("threshold"), m: () => show("map"), v: () => show("compare"),
    ...(name && {[event.key]: () => judge(rows(), "label", name)}), ...asking,
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
await refresh();
await show(location.hash.slice(1) || "grid");

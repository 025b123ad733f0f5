// Two thresholds on a measure: what each would leave out, and the clips on both sides of it. The recipe holds the rule.
import {$, bars, cell, code, count, el, json, number, percent, take} from "./core.js";

let seen = null, lines = {below: null, above: null}, busy = false, again = false;
const measure = () => $("edge-measure").value;
const value = place => seen.low + place / 1000 * (seen.high - seen.low);

export async function show(about, wanted) {
  const pick = $("edge-measure");
  if (!about.measures.length) { $("edges").replaceChildren(el("p", {className: "empty", textContent: "Nothing is measured: add a stage, such as Technical(), to the recipe and curate again."})); return; }
  if (!pick.length) { pick.append(...about.measures.map(name => new Option(name))); pick.value = about.measures.find(name => !name.startsWith("clip.")) ?? about.measures[0]; }
  if (wanted) pick.value = wanted;
  pick.onchange = start;
  for (const side of ["below", "above"]) $(side).oninput = () => { lines[side] = value(+$(side).value); if ([0, 1000].includes(+$(side).value) && (side === "below") === (+$(side).value === 0)) lines[side] = null; update(); };
  await start();
}

let latest = 0;
async function start() {
  const mine = ++latest, found = await json("histogram?" + new URLSearchParams({of: measure()}));
  if (mine !== latest) return;  // another measure was chosen meanwhile
  seen = found;
  lines = {below: seen.low + 0.1 * (seen.high - seen.low), above: null};
  $("edge-about").textContent = `from ${number(seen.least)} to ${number(seen.most)}; green is kept today, red left out`;
  place();
  await update();
}
function place() {
  const at = line => Math.round(1000 * (line - seen.low) / ((seen.high - seen.low) || 1));
  $("below").value = lines.below === null ? 0 : at(lines.below);
  $("above").value = lines.above === null ? 1000 : at(lines.above);
}

async function update() {
  bars($("edge-histogram"), seen, lines.below ?? -Infinity, lines.above ?? Infinity);
  if (busy) { again = true; return; }
  busy = true;
  try {
    do {
      again = false;
      const asked = new URLSearchParams({of: measure()});
      for (const side of ["below", "above"]) if (lines[side] !== null) asked.set(side, +lines[side].toPrecision(4));
      draw(await json("threshold?" + asked));
    } while (again);
  } finally { busy = false; }
}

function draw(found) {
  const all = [];
  const strip = rows => { const figures = rows.map(row => cell(row, one => el("b", {textContent: number(one.shown)}))); all.push(...figures); return el("div", {className: "strip"}, ...figures); };
  const boxes = found.map(edge => {
    const box = $(`edge-${edge.side}`) ?? el("div", {className: "edge", id: `edge-${edge.side}`});
    let exact = box.querySelector("input");
    if (!exact) { exact = el("input", {type: "number", step: "any", size: 8}); exact.setAttribute("aria-label", `${edge.side} exactly`); exact.onchange = () => { lines[edge.side] = exact.value === "" ? null : +exact.value; place(); update(); }; }
    if (document.activeElement !== exact) exact.value = edge.line;
    const newly = `${count(edge.kept)} of them kept today`;
    const rule = `Where("${measure()}", ${edge.side}=${edge.line})`;
    box.replaceChildren(
      el("p", {}, edge.side, exact, el("span", {}, el("b", {className: "cut", textContent: count(edge.cut)}), ` of ${count(edge.clips)} clips (${percent(edge.cut / (edge.clips || 1))}), ${newly}`), el("span", {className: "space"}), ...code(rule)),
      el("h3", {className: "out", textContent: "just left out, the nearest first"}), strip(edge.out), el("h3", {className: "stay", textContent: "just kept"}), strip(edge.stay));
    return box;
  });
  const old = document.activeElement;
  $("edges").replaceChildren(...(boxes.length ? boxes : [el("p", {className: "empty", textContent: "Drag the left handle to leave out what lies below it, the right one for what lies above."})]));
  if (old?.isConnected && old.tagName === "INPUT") old.focus();
  take(all, () => 12);
}

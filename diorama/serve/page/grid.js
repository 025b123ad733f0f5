// The grid of clips, a page at a time, and sheets by the values of a column.
import {$, cell, count, el, fill, filter, filtered, json, number, pause, pictures, take} from "./core.js";

export const PAGE = 200;
const ROW = 175;  // pixels, about
let offset = 0, total = 0, latest = 0;
const main = document.querySelector("main"), inView = () => across() * Math.ceil(main.clientHeight / ROW);
const across = () => getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;

export async function load(from = 0) {
  const mine = ++latest;
  if ($("by").value) return sheets(mine);
  const sort = $("sort").value, measured = sort === "up" || sort === "down";
  const page = await json("items?" + filtered({offset: from, limit: PAGE, down: sort === "down", sort: measured ? (filter.measure ? "measure" : "location") : sort}));
  const figures = page.rows.map(row => cell(row));
  await Promise.race([fill(pictures(figures.slice(0, inView())), true).catch(() => {}), pause(150)]);  // what comes soon is drawn once, at once
  if (mine !== latest) return;  // a later question was asked meanwhile
  [offset, total] = [from, page.total];
  $("total").textContent = total ? `${count(from + 1)} to ${count(from + page.rows.length)} of ${count(total)}` : "no clip fits: take a filter away";
  $("previous").disabled = !from;
  $("next").disabled = from + PAGE >= total;
  $("previous").hidden = $("next").hidden = false;
  $("sheets").replaceChildren();
  $("grid").replaceChildren(...figures);
  const filled = take(figures, across);
  main.scrollTop = 0;
  await filled;
}

export const turn = pages => { const to = offset + pages * PAGE; if (to >= 0 && to < total && !$("by").value) load(to); };

async function sheets(mine) {
  const by = $("by").value, found = await json("sheets?" + filtered({by}));
  if (mine !== latest) return;
  total = found.reduce((sum, sheet) => sum + sheet.n, 0);
  $("total").textContent = `${count(total)} clips on ${found.length} sheets`;
  $("previous").hidden = $("next").hidden = true;
  const all = [];
  $("grid").replaceChildren();
  $("sheets").replaceChildren(...found.map(sheet => {
    const ranged = sheet.low !== null, name = ranged ? `${number(sheet.low)} to ${number(sheet.high)}` : sheet.value ?? "none";
    const figures = sheet.rows.map(row => cell(row, ranged ? undefined : caption));
    all.push(...figures);
    const head = el("button", {title: "only these", onclick: () => narrow(by, sheet)}, el("b", {textContent: name}), el("span", {textContent: count(sheet.n)}));
    return el("div", {className: "sheet"}, head, el("div", {className: "strip"}, ...figures));
  }));
  main.scrollTop = 0;
  await take(all, () => 12);
}
const caption = row => row.caption || row.location.split("/").pop();

function narrow(by, sheet) {
  $("by").value = "";
  const change = sheet.low !== null ? {measure: by, low: sheet.low, high: sheet.high} : {column: by, equals: sheet.value};
  document.dispatchEvent(new CustomEvent("narrow", {detail: change}));
}

export function show() {
  $("previous").onclick = () => turn(-1);
  $("next").onclick = () => turn(1);
  return load();
}

// A clip in full, beside the one kept in its place, and what is written of it.
import {$, chosen, dress, el, json, judge, list, number, player} from "./core.js";

const table = (rows, className = "") => el("table", {className}, ...rows.map(cells => el("tr", {}, ...cells.map(text => el("td", {textContent: text})))));
const text = value => typeof value === "number" ? number(value) : String(value);
const HIDDEN = ["n", "root", "verdict", "reason", "metric", "value", "threshold", "partner", "rule", "rule_verdict", "location", "caption", "judged", "sampled", "edited", "run", "actor"];

export async function open() {
  const row = list.figures[list.at]?.row;
  if (!row) return;
  const known = await json(`item/${row.n}`);
  const side = (one, note) => el("div", {}, player(one, true), el("p", {textContent: note}));
  const pair = known.partner ? [side(known.partner, `kept: ${known.partner.location}`), side(row, `left out: ${row.location}`)] : [side(row, row.location)];
  $("pair").replaceChildren(...pair);
  const word = el("span", {className: `${row.verdict}-word`, textContent: row.verdict === "keep" ? "kept" : "left out"});
  const why = known.row.metric ? `${known.row.metric} is ${number(known.row.value)}, the threshold ${number(known.row.threshold)}` : "";
  const said = row.judged && row.judged !== "undo" ? `you or others said: ${row.judged}` : "";
  const history = known.history.map(one => [`${one.time.slice(0, 16).replace("T", " ")}`, `${one.verdict}: ${one.reason}${one.actor === "rule" ? "" : ` (${one.actor})`}${one.metric ? `, ${number(one.value)}` : ""}`]);
  $("facts").replaceChildren(
    el("h3", {}, word, `: ${row.reason}`), el("div", {textContent: why}), el("div", {textContent: said}),
    el("p", {className: "said", textContent: row.caption || "no caption"}),
    el("button", {textContent: "write caption (c)", onclick: write}), " ", el("button", {textContent: "name class (l)", onclick: label}),
    el("h2", {textContent: "Measured"}), table(Object.entries(known.measured).map(([name, value]) => [name, text(value)])),
    el("h2", {textContent: "Seen"}), table(Object.entries(known.seen).filter(([name]) => !HIDDEN.includes(name)).map(([name, value]) => [name.replace("_", " "), text(value)])),
    el("h2", {textContent: "Verdicts"}), table(history, "history"),
  );
  if (!$("open").open) $("open").showModal();
  $("facts").scrollTop = 0;
}
$("open").onclose = () => $("pair").replaceChildren();  // playing ends

function edit(verdict, what, how, field) {
  const figures = chosen(), rows = figures.map(figure => figure.row);
  if (!rows.length) return;
  const [first] = rows, old = verdict === "caption" ? first.caption : first.class_name;
  $("text").hidden = field !== "text";
  $("class").hidden = field !== "class";
  $(field).value = old ?? "";
  $("edit-what").textContent = rows.length > 1 ? `${what} of ${rows.length} clips` : `${what} of ${first.location.split("/").pop()}`;
  $("edit-how").textContent = how;
  $("edit").onclose = async () => {
    const back = $("edit").returnValue;
    $("edit").returnValue = "";
    if (!["save", "back"].includes(back)) return;
    const words = $(field).value.trim();
    await judge(rows, verdict, back === "back" || (verdict === "label" && !words) ? null : words);
    if (back === "back") for (const figure of figures) { Object.assign(figure.row, (await json(`item/${figure.row.n}`)).row); dress(figure); }
    if ($("open").open) open();
  };
  $("edit").showModal();
  $(field).select();
}
export const write = () => edit("caption", "caption", "Enter saves, Shift+Enter breaks the line", "text");
export const label = () => edit("label", "class", "Enter saves", "class");
for (const field of ["text", "class"]) $(field).addEventListener("keydown", event => {
  event.stopPropagation();
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("edit").close("save"); }
});

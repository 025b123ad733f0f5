// Groups of copies side by side, and what changed between two runs of curation.
import {$, cell, count, el, json, number, take} from "./core.js";

const GROUPS = 20;
let offset = 0, total = 0;

export async function duplicates(about, from = 0) {
  const pick = $("groups-reason");
  if (!pick.length) { pick.append(new Option("for any reason", "")); pick.onchange = () => duplicates(about); }
  const found = await json("groups?" + new URLSearchParams({reason: pick.value, offset: from, limit: GROUPS}));
  [offset, total] = [from, found.total];
  if (pick.length === 1) pick.append(...about.copies.map(reason => new Option(reason)));
  const last = Math.min(from + GROUPS, total);
  $("groups-total").textContent = total ? `groups ${count(from + 1)} to ${count(last)} of ${count(total)}` : "";
  $("groups-previous").disabled = !from; $("groups-next").disabled = last >= total;
  $("groups-previous").onclick = () => turn(about, -1); $("groups-next").onclick = () => turn(about, 1);
  const all = [];
  $("groups").replaceChildren(...found.groups.map(rows => {
    const figures = rows.map((row, i) => cell(row, one => i ? [el("b", {textContent: number(one.value) || "same"}), one.threshold === null ? one.reason : `over ${number(one.threshold)}`, size(one)] : [el("b", {className: one.verdict === "keep" ? "keep-word" : "drop-word", textContent: one.verdict === "keep" ? "kept" : "left out too"}), size(one), one.location.split("/").pop()]));
    all.push(...figures);
    return el("div", {className: "group"}, ...figures);
  }));
  if (!total) $("groups").replaceChildren(el("p", {className: "empty", textContent: "Nothing was left out as a copy of another clip. NearDuplicates() in a recipe looks for them."}));
  document.querySelector("main").scrollTop = 0;
  await take(all, () => Math.max(1, all.findIndex(figure => figure.offsetTop > all[0].offsetTop)));
}
const size = row => row.w ? `${row.w} × ${row.h}` : "";
export const turn = (about, pages) => { const to = offset + pages * GROUPS; if (to >= 0 && to < total) duplicates(about, to); };

export async function compare() {
  const runs = await json("runs"), [from, to] = [$("from"), $("to")];
  if (!to.length) {
    const named = run => new Option(`run ${run.run}, ${run.time.slice(0, 16).replace("T", " ")}`, run.run);
    from.append(new Option("nothing", 0), ...runs.map(named));
    to.append(...runs.map(named));
    to.value = runs.at(-1)?.run; from.value = runs.at(-2)?.run ?? 0;
    from.onchange = to.onchange = compare;
  }
  if (!runs.length) return;
  const [a, b] = [+from.value, +to.value], found = await json("changes?" + new URLSearchParams({a, b}));
  $("runs-about").textContent = a >= b ? "choose an earlier run at the left" : `${count(found.changes.reduce((sum, line) => sum + line.n, 0))} verdicts changed`;
  const verdict = (word, reason) => word ? [el("span", {className: `${word}-word`, textContent: word === "keep" ? "kept" : "left out"}), ` ${reason}`] : ["not there"];
  const rows = found.changes.map(line => {
    const row = el("tr", {className: "choose", tabIndex: 0}, el("td", {}, ...verdict(line.old_verdict, line.old_reason)), el("td", {}, ...verdict(line.new_verdict, line.new_reason), line.old_verdict === line.new_verdict && line.old_reason === line.new_reason ? el("span", {className: "hint", textContent: ", by another value or threshold"}) : null), el("td", {className: "n", textContent: count(line.n)}));
    row.onclick = async () => {
      const old = line.old_verdict ? [line.old_verdict, line.old_reason] : null;
      const kept = await json("changes/select", {a, b, old, new: [line.new_verdict, line.new_reason]});
      document.dispatchEvent(new CustomEvent("narrow", {detail: {selection: kept.selection, called: `${count(kept.items)} that changed`}}));
    };
    row.onkeydown = event => { if (event.key === "Enter") row.onclick(); };
    return row;
  });
  const policy = el("pre", {}, ...found.policy.map(line => el("div", {className: line[0] === "+" ? "plus" : "minus", textContent: line})));
  $("changes").replaceChildren(
    el("div", {}, rows.length ? el("table", {}, el("tr", {}, ...["before", "after", "clips"].map(text => el("th", {textContent: text}))), ...rows) : el("p", {className: "empty", textContent: "No verdict differs between these runs."})),
    el("div", {}, el("h2", {textContent: "The policy"}), found.policy.length ? policy : el("p", {className: "hint", textContent: a ? "The same stages and rules." : ""})));
}

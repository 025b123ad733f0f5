// A random sample that people judge without being told the verdict, and what it says of every rule.
import {$, count, el, json, judge, list, percent, player} from "./core.js";

let rows = [], at = 0;
export const running = () => rows.length > 0 && at < rows.length;

export async function show() {
  Object.assign(list, {figures: []});
  await estimates();
  if (running()) { step(); return; }
  const size = el("input", {type: "number", min: 1, max: 1000, value: 100, size: 5, ariaLabel: "clips"});
  $("asked").replaceChildren(el("div", {className: "start"}, el("h1", {textContent: "How good is each rule?"}),
    el("p", {textContent: "Judge clips drawn at random from every rule and from what is kept. You are not told what the rules said. From your answers the page estimates how often each rule is right, with an interval that holds the truth 95 times of 100, and how much was missed."}),
    el("p", {className: "hint", textContent: "Your answers are decisions like all others: they overrule the rules when the catalogue is curated again."}),
    el("p", {}, size, " clips ", el("button", {className: "main", id: "begin", textContent: "begin", onclick: async () => { rows = await json(`sample?size=${size.value || 100}`); at = 0; step(); }}))));
}

async function step() {
  if (!running()) {
    rows = [];
    $("asked").replaceChildren(el("div", {className: "start"}, el("h1", {textContent: "Done. Thank you."}), el("p", {}, el("button", {textContent: "another sample", onclick: show}))));
    return;
  }
  const row = rows[at], known = row.partner ? (await json(`item/${row.n}`)).partner : null;
  if (row !== rows[at]) return;
  const button = (text, key, verdict) => el("button", {onclick: () => answer(verdict)}, `${text} `, el("kbd", {textContent: key}));
  const question = known ? "Do both show the same, so that one is enough?" : "Should this clip be trained on?";
  const answers = known ? [button("same: drop one", "d", "drop"), button("different: keep both", "k", "keep")] : [button("keep", "k", "keep"), button("drop", "d", "drop")];
  $("asked").replaceChildren(el("progress", {max: rows.length, value: at}), el("div", {className: "pictures"}, ...(known ? [player(known, false)] : []), player(row, false)),
    el("div", {className: "answers"}, el("b", {textContent: question}), ...answers, button("back", "u", "undo"), el("button", {onclick: skip}, "skip ", el("kbd", {textContent: "s"})), el("span", {className: "hint", textContent: `${at + 1} of ${rows.length}`})),
    el("div", {className: "hint", textContent: row.caption ?? ""}));
}
const skip = () => { at += 1; step(); };

export async function answer(verdict) {
  if (verdict === "skip") return running() && skip();
  if (verdict === "undo") {
    if (!at) return;
    at -= 1;
    if (rows[at].judged) await judge([rows[at]], "undo");
  } else {
    if (!running()) return;
    const row = rows[at++];
    await judge([row], verdict, "random sample");
  }
  await step();
  await estimates();
}

async function estimates() {
  const found = await json("estimates");
  const interval = (share, low, high) => {
    const range = el("i"), mark = el("b");
    range.style.left = `${100 * low}%`; range.style.width = `${100 * (high - low)}%`;
    mark.style.left = `${100 * (share ?? 0)}%`; mark.hidden = share === null;
    return el("div", {className: "interval"}, range, mark);
  };
  const line = (name, clips, judged, share, low, high) => el("tr", {}, el("td", {}, el("b", {textContent: name}), el("div", {className: "hint", textContent: `${count(clips)} clips, ${judged} judged`})),
    el("td", {}, share === null ? "not judged yet" : `${percent(share)} (${percent(low)} to ${percent(high)})`, interval(share, low, high)));
  const kept = found.kept;
  $("estimates").replaceChildren(el("h2", {textContent: "Precision: of what a rule left out, people would too"}), el("table", {}, ...found.rules.map(rule => line(rule.rule, rule.clips, rule.judged, rule.precision, rule.low, rule.high))),
    el("h2", {textContent: "Missed: of what is kept, people would drop"}), el("table", {}, line("kept", kept.clips, kept.judged, kept.missed, kept.low, kept.high)),
    el("p", {textContent: kept.judged ? `About ${count(Math.round(kept.missed * kept.clips))} clips of the kept ones (${count(Math.round(kept.low * kept.clips))} to ${count(Math.round(kept.high * kept.clips))}).` : ""}),
    el("p", {textContent: found.recall === null ? "" : `Together the rules find about ${percent(found.recall)} of what people would drop.`}),
    el("p", {className: "hint", textContent: "Wilson intervals at 95 %, of all judgements of random samples so far."}));
}

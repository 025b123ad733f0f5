// What all views share: asking the server, elements, pictures, and the list of clips that keys act on.

export const $ = id => document.getElementById(id);
export const number = x => x === null || x === undefined ? "" : Math.abs(x) >= 1e4 ? Math.round(x).toLocaleString("en") : String(+(+x).toPrecision(4));
export const count = n => n.toLocaleString("en");
export const percent = x => `${(100 * x).toFixed(x < 0.1 ? 1 : 0)} %`;

export function el(tag, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...inside.filter(one => one !== null && one !== undefined));
  return made;
}

export async function ask(path, body) {
  const options = body && {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
  let answer;
  try { answer = await fetch(path, options); } catch { return wrong("the server does not answer: is diorama look still running?"); }
  if (answer.ok) { $("wrong").hidden = true; return answer; }
  const text = await answer.text();
  let said = text;
  try { said = JSON.parse(text).error || text; } catch { /* plain text */ }
  return wrong(said);
}
export const json = async (path, body) => (await ask(path, body)).json();
export function wrong(text) {
  $("wrong").textContent = text;
  $("wrong").hidden = false;
  throw new Error(text);
}

// Which clips are meant; see Filter of the server.
export const filter = {verdict: "", reason: "", words: "", measure: "", low: null, high: null, column: "", equals: null, selection: "", called: ""};
export function filtered(more = {}) {
  const asked = new URLSearchParams();
  const {called, ...rest} = filter;  // what the selection is called is for people
  for (const [key, value] of Object.entries({...rest, ...more})) if (value !== "" && value !== null && value !== undefined) asked.set(key, value);
  return asked;
}

// Pictures: those of a whole page come in one answer. A size of 0 is not stored, one of 2 ** 32 - 1 not packed yet. They
// are shown by data: addresses, since a browser asks another of its processes for every blob: address (200: 0.5 s).
const held = new Map(), HELD = 4000, PENDING = 2 ** 32 - 1;
const still = row => `preview/${row.n}?of=${row.id}`;  // another id is another picture
function base64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();  // browsers since 2025
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode.apply(null, bytes.subarray(at, at + 8192));
  return btoa(text);
}
async function stored(numbers, larger = false) {
  const data = await (await ask(`thumbnails?larger=${larger}&n=${numbers.join(",")}`)).arrayBuffer();
  const sizes = new DataView(data), found = new Map();
  let at = 4 * numbers.length;
  numbers.forEach((n, i) => {
    const size = sizes.getUint32(4 * i, true), there = size && size !== PENDING;
    found.set(n, there ? "data:image/jpeg;base64," + base64(new Uint8Array(data, at, size)) : size);
    if (there) at += size;
  });
  return found;
}
export function picture(row) {
  const image = el("img", {alt: row.caption || row.location, decoding: "async"});
  return Object.assign(image, {row, address: held.get(row.n)});
}
export const pictures = figures => figures.map(figure => figure.querySelector("img"));
export const pause = milliseconds => new Promise(later => setTimeout(later, milliseconds));

// Fetch what images lack. Those in view, or nearly, are given theirs; the others once they are scrolled to, since 200
// pictures that nobody looks at cost as long to decode as those that people do. `now`: all of them, at once.
export async function fill(images, now = false) {
  let lacking = images.filter(image => !image.address);
  for (let turn = 0; lacking.length && turn < 100; turn++) {
    const found = await stored([...new Set(lacking.map(image => image.row.n))].slice(0, 1000));
    for (const [n, one] of found) if (typeof one === "string") held.set(n, one);
    for (const image of lacking) image.address = held.get(image.row.n) ?? (found.get(image.row.n) === 0 ? still(image.row) : "");
    lacking = lacking.filter(image => !image.address);
    if (lacking.length && [...found.values()].includes(PENDING)) { relook(images); await pause(300); }
    lacking = lacking.filter(image => image.isConnected);
  }
  if (now) for (const image of images) if (image.address) image.src = image.address;
  relook(images);
  for (const n of held.keys()) {  // the oldest first; what is shown has its own copy
    if (held.size <= HELD) break;
    held.delete(n);
  }
}

// What comes into view is given its picture. A thumbnail that is too small for its cell and the screen, or of which a
// part was cut off, is then replaced. Cells are observed: what is in them is not laid out before they come near.
const looked = new IntersectionObserver(async entries => {
  const seen = entries.filter(entry => entry.isIntersecting).map(entry => [entry.target.querySelector("img"), entry.boundingClientRect.width]);
  for (const [image] of seen) if (image.address && !image.getAttribute("src")) image.src = image.address;
  await Promise.all(seen.map(([image]) => image.complete || new Promise(loaded => { image.onload = image.onerror = loaded; })));
  const coarse = seen.filter(([image, wide]) => small(image, wide)).map(([image]) => image);
  if (!coarse.length) return;
  for (const image of coarse) image.larger = true;
  const found = await stored([...new Set(coarse.map(image => image.row.n))], true);
  for (const image of coarse) {
    const address = found.get(image.row.n);
    if (typeof address === "string") image.src = address;
    else image.larger = address !== PENDING;  // another time
  }
}, {rootMargin: "60%", scrollMargin: "60%"});
function small({row, larger, naturalWidth, naturalHeight}, wide) {
  const has = Math.min(naturalWidth, naturalHeight), short = Math.min(row.w, row.h);
  if (larger || !has || has >= short) return false;
  return devicePixelRatio * wide > 1.25 * has || Math.max(row.w, row.h) > 2 * short;
}
export function relook(images = pictures(list.figures)) {
  for (const image of images) { looked.unobserve(image.parentElement.parentElement); looked.observe(image.parentElement.parentElement); }
}

// A clip as it moves, or a still. What the browser cannot play is shown by its stored frames in turn, or its preview.
export function player(row, controls) {
  const moving = row.kind === "video" && !/\.(gif|webp|png|jpe?g)$/i.test(row.location);
  const media = el(moving ? "video" : "img", {alt: row.caption || row.location});
  const start = row.start ?? 0, end = row.start === null ? Infinity : start + row.t / row.rate;
  if (moving) Object.assign(media, {autoplay: true, loop: true, muted: true, playsInline: true, controls});
  if (moving && end < Infinity) {
    media.onloadedmetadata = () => { media.currentTime = start; };
    media.ontimeupdate = () => { if (media.currentTime >= end || media.currentTime < start - 0.5) media.currentTime = start; };
  }
  media.onerror = async () => {
    const image = el("img", {alt: media.alt, src: still(row)});
    media.replaceWith(image);
    if (row.kind !== "video") return;
    const data = await (await ask(`frames/${row.n}`)).arrayBuffer(), view = new DataView(data), n = view.getUint32(0, true);
    let at = 4 + 4 * n;
    const urls = Array.from({length: n}, (_, i) => {
      const size = view.getUint32(4 + 4 * i, true), url = URL.createObjectURL(new Blob([new Uint8Array(data, at, size)], {type: "image/jpeg"}));
      at += size;
      return url;
    });
    let turn = 0;
    const clock = n > 1 && setInterval(() => {
      if (image.isConnected) { image.src = urls[turn++ % n]; return; }
      clearInterval(clock);
      urls.forEach(URL.revokeObjectURL);
    }, 400);
  };
  if (held.has(row.n)) media.style.backgroundImage = `url(${held.get(row.n)})`;  // until it is there
  const there = () => { media.style.backgroundImage = ""; };
  if (moving) media.onloadeddata = there; else media.onload = there;
  media.src = `media/${row.n}`;
  return media;
}

// A clip in a list. `text` is what stands under it.
export function cell(row, text) {
  const box = el("div", {className: "picture"}, picture(row));
  if (row.kind === "video" && row.t) box.append(el("span", {className: "mark length", textContent: row.rate ? `${(row.t / row.rate).toFixed(1)} s` : `${row.t} f`}));
  const caption = el("figcaption", {title: `${row.location}\n${row.verdict}: ${row.reason}`});
  const figure = el("figure", {className: row.verdict, tabIndex: -1}, box, caption);
  figure.setAttribute("role", "option");
  figure.row = row;
  if (row.kind === "video" && row.t > 1) {
    let wait;
    figure.onmouseenter = () => { wait = setTimeout(() => box.append(player(row, false)), 180); };
    figure.onmouseleave = () => { clearTimeout(wait); [...box.children].filter(one => one.tagName === "VIDEO" || (one.tagName === "IMG" && one !== box.firstChild)).forEach(one => one.remove()); };
  }
  figure.label = text ?? words;
  dress(figure);
  return figure;
}
function words(row) {
  const value = number(row.shown), name = row.class_name ?? (row.label === null ? "" : String(row.label));
  return [value && el("b", {textContent: value}), [name, row.caption || row.location.split("/").pop()].filter(Boolean).join(" · ")];
}
export function dress(figure) {
  const row = figure.row, parts = [].concat(figure.label(row)).filter(Boolean).flatMap((part, i) => i ? [" · ", part] : [part]);
  figure.querySelector("figcaption").replaceChildren(...parts);
  figure.querySelector(".mark:not(.length)")?.remove();
  if (row.judged && row.judged !== "undo") figure.firstChild.append(el("span", {className: `mark ${row.judged}`, textContent: row.judged}));
}

// The list that keys act on: its figures, the one chosen, and the other end of what Shift chose.
export const list = {figures: [], at: 0, from: 0, across: () => 1};
export function take(figures, across) {
  Object.assign(list, {figures, at: 0, from: 0, across});
  figures.forEach((figure, i) => {
    figure.onclick = event => choose(i, event.shiftKey);
    figure.ondblclick = () => document.dispatchEvent(new CustomEvent("open-clip"));
  });
  const filled = fill(pictures(figures));
  if (figures.length) choose(0);
  return filled;
}
export function choose(i, several = false) {
  if (!list.figures.length) return;
  list.at = Math.max(0, Math.min(i, list.figures.length - 1));
  if (!several) list.from = list.at;
  const [low, high] = [Math.min(list.at, list.from), Math.max(list.at, list.from)];
  list.figures.forEach((figure, k) => figure.setAttribute("aria-selected", k >= low && k <= high));
  list.figures[list.at].scrollIntoView({block: "nearest", inline: "nearest"});
}
export const chosen = () => list.figures.slice(Math.min(list.at, list.from), Math.max(list.at, list.from) + 1);

export async function judge(rows, verdict, reason = null) {
  const ids = [...new Set(rows.map(row => row.id).filter(Boolean))];
  if (!ids.length) return rows.length ? wrong("what cannot be read cannot be judged") : undefined;
  await ask("judge", {ids, verdict, reason, person: $("person").value.trim() || "someone"});
  for (const row of rows) if (row.id) {
    if (verdict === "label") row.class_name = reason;
    else if (verdict === "caption") Object.assign(row, {caption: reason, edited: true});
    else row.judged = verdict;
  }
  for (const figure of document.querySelectorAll("figure")) if (ids.includes(figure.row?.id)) {
    const same = rows.find(row => row.id === figure.row.id);
    Object.assign(figure.row, {judged: same.judged, caption: same.caption, class_name: same.class_name});
    dress(figure);
  }
}
export function code(text) {
  const button = el("button", {textContent: "copy", onclick: async () => { await navigator.clipboard.writeText(text); button.textContent = "copied"; setTimeout(() => { button.textContent = "copy"; }, 1200); }});
  return [el("code", {textContent: text}), button];
}
export function bars(canvas, seen, from = -Infinity, to = Infinity) {
  const pen = canvas.getContext("2d"), {width, height} = canvas, bins = seen.keep.length, step = width / bins;
  const style = getComputedStyle(document.documentElement), probe = el("i");
  document.body.append(probe);
  const colour = name => { probe.style.color = style.getPropertyValue(name); return getComputedStyle(probe).color; };
  const keep = colour("--keep"), drop = colour("--drop"), most = Math.max(1, ...seen.keep.map((k, i) => k + seen.drop[i]));
  probe.remove();
  pen.clearRect(0, 0, width, height);
  seen.keep.forEach((kept, i) => {
    const value = seen.low + (i + 0.5) / bins * (seen.high - seen.low), tall = n => Math.sqrt(n / most) * (height - 2);
    pen.globalAlpha = value >= from && value <= to ? 1 : 0.3;
    pen.fillStyle = drop; pen.fillRect(i * step, height - tall(kept + seen.drop[i]), step - 1, tall(kept + seen.drop[i]));
    pen.fillStyle = keep; pen.fillRect(i * step, height - tall(kept), step - 1, tall(kept));
  });
}

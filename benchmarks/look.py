"""The page of `diorama look` in a real browser: time to open a catalogue, to turn a page, to count a threshold.

Install:   python -m pip install -e '.[test]', and Chromium with its driver
Command:   python -m benchmarks.look [--items 100000] [--pictures 100000] [--keep FOLDER]
Hardware:  two CPU cores, 8 GB; 100,000 items with pictures take 3.5 GB of disk and 3 minutes, most of it making them

The catalogue is made up: its ledgers are written as curation writes them (shards of 512 items), with 20 measures, small
pictures and vectors of 256 numbers, but no media are behind them. Times are medians of `--rounds`, in milliseconds as
the browser's own clock has them, from the request to the moment at which all 200 pictures of a page have come, those in
view are decoded and a frame was painted; the browser decodes the others as they are scrolled to. The last line is JSON.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diorama.core.files import hash_bytes
from diorama.data.ledger import CLIP, DECISION, OBSERVATION
from diorama.data.observe import SHARD
from diorama.data.stages.preview import thumbnail
from diorama.serve.gallery import Gallery
from diorama.serve.look import app

MEASURED = 20  # numbers of the stage "technical"
WIDE = 256  # numbers of a vector
FACES = 400  # different pictures, of 14 KB and thumbnails of 5 KB
SEED = 0


def make(out: Path, items: int, pictures: int) -> None:
    """Write a catalogue of `items`, the first `pictures` of them with a small picture and a vector."""
    rng = np.random.default_rng(SEED)
    faces = [_face(rng) for _ in range(FACES)]
    images, thumbnails = ([jpeg(frame) for frame in faces] for jpeg in (_jpeg, thumbnail))
    folders = {
        name: out / "observations" / name / f"{name:0<16}"[:16]
        for name in ("probe", "technical", "preview", "embedding")
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    kinds = rng.normal(0, 4, (12, WIDE))
    clips, decisions = [], []
    for first in range(0, items, SHARD):
        numbers = np.arange(first, min(first + SHARD, items))
        ids = [hash_bytes(int(n).to_bytes(8, "little")) for n in numbers]
        locations = [f"/footage/reel{n // 1000:04d}/still{n:07d}.png" for n in numbers]
        sharp = rng.gamma(4.0, 1.0, len(numbers))
        reason = np.select([sharp < 1.5, rng.random(len(numbers)) < 0.05], ["blurred", "near-duplicate"], "")
        seen = {
            "location": locations, "root": ["/footage"] * len(ids), "stamp": ["1"] * len(ids), "run": [1] * len(ids),
            "id": ids, "pixels": ids, "kind": ["image"] * len(ids), "t": [1] * len(ids), "h": [512] * len(ids),
            "w": [512] * len(ids), "bytes": [90_000] * len(ids), "format": ["PNG"] * len(ids),
            "caption": [f"reel {n // 1000}, still {n}" for n in numbers], "label": [int(n) % 12 for n in numbers],
        }  # fmt: skip
        name = f"{first:08d}"
        _write(folders["probe"] / f"{name}.parquet", seen, OBSERVATION)
        measures = {f"measure{k}": rng.normal(size=len(ids)) for k in range(MEASURED - 1)} | {"sharpness": sharp}
        _write(folders["technical"] / f"{name}.parquet", {"id": ids, "error": [None] * len(ids), **measures})
        shown = ids[: max(min(pictures - first, len(ids)), 0)]
        if shown:
            pick, count = rng.integers(0, FACES, len(shown)), numbers[: len(shown)]
            _write(folders["preview"] / f"{name}.parquet", {
                "id": shown, "error": pa.nulls(len(shown), pa.string()),
                "images": [[_numbered(images[k], n)] for k, n in zip(pick, count, strict=True)],
                "thumbnail": [_numbered(thumbnails[k], n) for k, n in zip(pick, count, strict=True)],
                "at": pa.array([[0]] * len(shown), pa.list_(pa.int64())),
            })  # fmt: skip
            vectors = kinds[rng.integers(0, len(kinds), len(shown))] + rng.normal(size=(len(shown), WIDE))
            _write(folders["embedding"] / f"{name}.parquet", {
                "id": shown, "error": pa.nulls(len(shown), pa.string()),
                "vector": pa.array(list(vectors.astype(np.float32)), pa.list_(pa.float32())),
            })  # fmt: skip
        for k, why in enumerate(reason):
            row = {"location": locations[k], "id": ids[k], "verdict": "drop" if why else "keep",
                   "reason": why or "sound and unlike the others", "actor": "rule", "policy": "0" * 16, "run": 1,
                   "time": "2026-01-01T00:00:00+00:00"}  # fmt: skip
            if why == "blurred":
                row |= {"metric": "technical.sharpness", "value": float(sharp[k]), "threshold": 1.5}
            if why == "near-duplicate":
                row |= {"metric": "signature.score", "value": 0.97, "threshold": 0.9, "partner": locations[k - 1]}
            decisions.append(row)
        clips += [{"id": i, "location": p} for i, p, why in zip(ids, locations, reason, strict=True) if not why]
    (out / "decisions").mkdir()
    pq.write_table(pa.Table.from_pylist(decisions, DECISION), out / "decisions" / "000001.parquet")
    data = lance.write_dataset(pa.Table.from_pylist(clips, CLIP), out / "clips.lance", schema=CLIP)
    head = {"format": 1, "version": data.version, "clips": len(clips), "hash": "0" * 32, "policy": "0" * 16,
            "probe": str(folders.pop("probe").relative_to(out)),
            "stages": {stage: str(folder.relative_to(out)) for stage, folder in folders.items()}}  # fmt: skip
    (out / "catalogue.json").write_text(json.dumps(head))


def _face(rng: np.random.Generator) -> np.ndarray:
    """A picture (224, 224, 3) uint8, about as hard to compress as a photograph."""
    coarse = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (224, 224), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 40, (224, 224, 3)), (0, 0), 1.2)
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def _jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _numbered(jpeg: bytes, n: int) -> bytes:
    """The JPEG with a number as its comment, so that a browser decodes it anew though it has decoded its like."""
    return jpeg[:2] + b"\xff\xfe\x00\x0a" + int(n).to_bytes(8, "little") + jpeg[2:]


def _write(path: Path, columns: dict[str, Any], schema: pa.Schema | None = None) -> None:
    if schema:
        count = len(columns["id"])
        columns = {f.name: pa.array(columns.get(f.name, [None] * count), f.type) for f in schema}
    pq.write_table(pa.table(columns), path, compression="zstd")


@contextlib.contextmanager
def serving(gallery: Gallery) -> Iterator[str]:
    """The page's address, for as long as the block runs."""
    import socket

    import uvicorn

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app(gallery), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


# Each is the body of an async function in the page; it returns milliseconds.
_ALL_THERE = """
const there = async () => {
  const cells = () => [...document.querySelectorAll('#grid figure')], image = cell => cell.querySelector('img');
  const bottom = document.querySelector('main').getBoundingClientRect().bottom;
  while (cells().length < 200) await new Promise(later => setTimeout(later, 2));
  const seen = cells().filter(cell => cell.getBoundingClientRect().top < bottom).map(image);
  while (!seen.every(one => one.getAttribute('src'))) await new Promise(later => setTimeout(later, 2));
  await Promise.all(seen.map(one => one.decode()));
  await new Promise(requestAnimationFrame);
  while (!cells().every(cell => image(cell).address)) await new Promise(later => setTimeout(later, 2));
};
"""
_TURN = (
    _ALL_THERE
    + """
const before = document.querySelector('#grid figure'), start = performance.now();
document.getElementById('next').click();
while (document.querySelector('#grid figure') === before) await new Promise(later => setTimeout(later, 2));
await there();
return performance.now() - start;
"""
)
_PICTURES = """
const numbers = Array.from({length: 200}, () => Math.floor(Math.random() * PICTURES)), images = [];
const start = performance.now();
const add = url => { const image = new Image(); image.src = url; images.push(image); };
if (ONE) {
  const data = await (await fetch('thumbnails?larger=true&n=' + numbers)).arrayBuffer(), sizes = new DataView(data);
  let at = 800;
  numbers.forEach((n, i) => {
    const size = sizes.getUint32(4 * i, true);
    let text = '';
    new Uint8Array(data, at, size).forEach(byte => { text += String.fromCharCode(byte); });
    add('data:image/jpeg;base64,' + btoa(text));
    at += size;
  });
} else numbers.forEach(n => add(`preview/${n}?once=${Math.random()}`));
await Promise.all(images.map(image => image.decode()));
return performance.now() - start;
"""
_ASK = "const start = performance.now(); await (await fetch('URL')).arrayBuffer(); return performance.now() - start;"


def measure(catalogue: Path, pictures: int, rounds: int) -> dict[str, float]:
    """Milliseconds of everything that people wait for."""
    from selenium import webdriver

    found: dict[str, float] = {}
    shutil.rmtree(catalogue / "cache", ignore_errors=True)
    for turn in ("open, first time", "open"):
        start, spent = time.perf_counter(), time.process_time()
        gallery = Gallery(catalogue)
        found[turn] = 1e3 * (time.perf_counter() - start)
        found[f"{turn}, CPU"] = 1e3 * (time.process_time() - spent)
        start = time.perf_counter()
        if gallery.thumbnails:
            gallery.thumbnails.wait()
        if turn != "open":
            found["pack pictures, in the background"] = 1e3 * (time.perf_counter() - start)
            gallery.close()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(argument)
    with serving(gallery) as address:
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        browser.set_script_timeout(300)

        def run(script: str) -> Any:
            return browser.execute_script(f"return (async () => {{ {script} }})()")

        def timed(script: str) -> float:
            return statistics.median(run(script) for _ in range(rounds))

        start = time.perf_counter()
        browser.get(address)
        run(_ALL_THERE + "await there();")
        found["first page, from its address"] = 1e3 * (time.perf_counter() - start)
        found["turn a page of 200, by file"] = timed(_TURN)
        order = "const s = document.getElementById('sort'); s.value = 'random'; s.onchange();"
        run(_ALL_THERE + order + "await new Promise(l => setTimeout(l, 3000)); await there();")
        found["turn a page of 200, random order"] = timed(_TURN)
        for name, one in (("200 pictures, one answer", "true"), ("200 pictures, 200 answers", "false")):
            found[name] = timed(_PICTURES.replace("ONE", one).replace("PICTURES", str(pictures)))
        for name, url in (
            ("items, by a measure", "items?measure=technical.sharpness&sort=measure"),
            ("items, words", "items?words=still 77"),
            ("threshold, counts and both sides", "threshold?of=technical.sharpness&below=1.7"),
            ("histogram", "histogram?of=technical.sharpness"),
            ("sheets by a label", "sheets?by=label"),
            ("groups of copies", "groups"),
            ("sample of 100", "sample"),
        ):
            found[name] = timed(_ASK.replace("URL", url))
        browser.quit()
    start = time.perf_counter()
    gallery.map("embedding.vector")
    found["map, first time"] = 1e3 * (time.perf_counter() - start)
    gallery.close()
    return found


def main() -> None:
    """Make the catalogue, open it, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep", type=Path, help="where the catalogue is made, and found again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        catalogue = given.keep or Path(scratch) / "catalogue"
        if not (catalogue / "catalogue.json").exists():
            make(catalogue, given.items, given.pictures)
        found = measure(catalogue, given.pictures, given.rounds)
    for name, milliseconds in found.items():
        print(f"{name:40} {milliseconds:9.0f} ms")
    print(json.dumps({"items": given.items, "pictures": given.pictures, "rounds": given.rounds, "seed": SEED,
                      **{name: round(value, 1) for name, value in found.items()}}))  # fmt: skip


if __name__ == "__main__":
    main()

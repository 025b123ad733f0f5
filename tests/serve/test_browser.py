"""The page in a real browser: what people do there is done, and the console stays silent."""

import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.look import serving
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.data.export import export
from diorama.data.stages.preview import Preview
from diorama.media import write_mp4, write_png
from diorama.serve.gallery import Gallery
from tests.data.make import picture, video
from tests.data.toy import Bright, Relative

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")

POLICY = Curation(
    stages=(Preview(), Bright()), derived=(Relative(),), rules=(Drop("dark", (Where("bright.mean", below=50.0),)),)
)
DARK, LIGHT = 5, 13
DISTINCT = DARK + LIGHT + 1  # with a video
TOTAL = DISTINCT + 1  # with a copy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "media"
    folder.mkdir()
    for k in range(DARK + LIGHT):
        level = 5 * k + 1 if k < DARK else 60 + 10 * (k - DARK)
        frame = np.clip(picture(k, 48, 64) // 16 + level, 0, 255).astype(np.uint8)
        write_png(folder / f"{k:02d}.png", frame)
        (folder / f"{k:02d}.txt").write_text(f"still number {k}")
    write_mp4(folder / "film.mp4", video(3, 8, 48, 64), 8.0)
    shutil.copy(folder / f"{DARK + LIGHT - 1}.png", folder / "same.png")
    return folder


@pytest.fixture(scope="module")
def catalogue(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "c"
    curate([folder], path, POLICY)
    return path


@pytest.fixture
def address(catalogue) -> Iterator[str]:
    gallery = Gallery(catalogue)
    with serving(gallery) as address:
        yield address
    gallery.close()


@pytest.fixture
def page(address):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    page = Page(browser, address)
    yield page
    said = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    browser.quit()
    assert not said


class Page:
    """The page as a person has it: keys, clicks, and what can be seen."""

    def __init__(self, browser, address: str) -> None:
        self.browser, self.address = browser, address
        self.open()

    def open(self, view: str = "grid") -> None:
        self.browser.get("about:blank")
        self.browser.get(f"{self.address}#{view}")
        self.until(lambda: self.run("return document.querySelectorAll('#reasons button').length > 2"))

    def run(self, script: str, *given):
        """What a script returns, the body of an async function of `given`."""
        return self.browser.execute_script(f"return (async function() {{ {script} }})(...arguments)", *given)

    def until(self, true, seconds: float = 60) -> None:
        WebDriverWait(self.browser, seconds, 0.1).until(lambda _: true())

    def find(self, selector: str):
        self.until(lambda: self.run("return document.querySelector(arguments[0])", selector))
        return self.run("return document.querySelector(arguments[0])", selector)

    def text(self, selector: str) -> str:
        """What an element says; it may be replaced at any time."""
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def visible(self, selector: str) -> bool:
        return self.run("return !!document.querySelector(arguments[0])?.getClientRects().length", selector)

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def cells(self, inside: str = "#grid") -> list[dict]:
        """The clips in a list: their captions, marks, and whether their pictures are there."""
        script = """return [...document.querySelectorAll(arguments[0] + ' figure')].map(figure => ({
            name: figure.row.location.split('/').pop(), text: figure.querySelector('figcaption').textContent,
            mark: figure.querySelector('.mark:not(.length)')?.textContent ?? '',
            there: figure.querySelector('img').naturalWidth > 0}))"""
        return self.run(script, inside)

    def shows(self, count: int, inside: str = "#grid") -> list[dict]:
        """Wait until a list has `count` clips, with their pictures."""
        self.until(lambda: len(found := self.cells(inside)) == count and all(cell["there"] for cell in found))
        return self.cells(inside)


def test_reject_and_caption_by_keyboard_last_and_count(page, catalogue, folder, tmp_path):
    page.shows(TOTAL)
    page.find("#words").send_keys("number 1")
    cells = page.shows(9)  # 1, and 10 to 17
    assert [cell["name"] for cell in cells] == ["01.png", *(f"{k}.png" for k in range(10, 18))]
    page.press(Keys.ENTER, Keys.ARROW_RIGHT, "d")
    page.until(lambda: page.cells()[1]["mark"] == "drop")
    page.press("c")
    text = page.find("#text")
    page.until(lambda: text.is_displayed())
    text.send_keys("a caption, written anew", Keys.ENTER)
    page.until(lambda: "written anew" in page.cells()[2]["text"])
    page.press("k")
    page.until(lambda: page.cells()[2]["mark"] == "keep")
    page.press(Keys.ARROW_LEFT, "u")
    page.until(lambda: page.cells()[2]["mark"] == "")
    page.open()
    cells = {cell["name"]: cell for cell in page.shows(TOTAL)}
    assert cells["10.png"]["mark"] == "drop"
    assert "written anew" in cells["11.png"]["text"]
    curate([folder], catalogue, POLICY)
    export(Catalogue(catalogue), tmp_path / "out", "folder")
    written = "".join(path.read_text() for path in (tmp_path / "out").rglob("metadata.jsonl"))
    assert "a caption, written anew" in written
    assert "number 10" not in written
    assert "number 12" in written


def test_a_sheet_narrows_the_grid_and_a_clip_opens(page):
    page.shows(TOTAL)
    page.run("const by = document.getElementById('by'); by.value = 'kind'; by.onchange()")
    page.until(lambda: len(page.run("return [...document.querySelectorAll('.sheet')]")) == 2)
    page.run("[...document.querySelectorAll('.sheet > button')].find(b => b.textContent.startsWith('video')).click()")
    page.shows(1)
    page.press(Keys.ENTER)
    page.until(lambda: page.visible("#open"))
    page.until(lambda: page.run("const v = document.querySelector('#pair video'); return v && v.currentTime > 0"))
    assert "bright.mean" in page.text("#facts")
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.visible("#open"))
    ActionChains(page.browser).move_to_element(page.find("#grid figure")).perform()
    page.until(lambda: page.run("const v = document.querySelector('#grid video'); return v && v.currentTime > 0"))


def test_a_threshold_counts_while_it_moves(page, catalogue):
    page.open("threshold")
    page.until(lambda: "bright.mean" in page.text("#edge-below code"))
    page.run("const exact = document.querySelector('#edge-below input'); exact.value = 75; exact.onchange()")
    page.until(lambda: page.text("#edge-below .cut") == str(DARK + 1))
    assert page.text("#edge-below code") == 'Where("bright.mean", below=75)'
    page.run("const b = document.getElementById('below'); b.value = 500; b.oninput()")
    page.until(lambda: "below=75)" not in page.text("#edge-below code"))
    line = page.text("#edge-below code").split("below=")[1].rstrip(")")
    counted = Catalogue(catalogue).ask(f"select count(*) as n from bright where mean < {line}")["n"][0].as_py()
    assert DARK + 1 < counted < DARK + LIGHT
    assert page.text("#edge-below .cut") == str(counted)


def test_a_lasso_becomes_the_filter(page):
    page.open("map")
    page.until(lambda: "clips" in page.text("#placed"))
    time.sleep(0.5)  # the frame in which points are drawn
    page.find("#lasso").click()
    plane = page.find("#over")
    w, h = plane.size["width"] - 8, plane.size["height"] - 8
    loop = ActionChains(page.browser).move_to_element_with_offset(plane, -w // 2, -h // 2).click_and_hold()
    for x, y in ((w, 0), (0, h), (-w, 0)):
        loop.move_by_offset(x, y)
    loop.release().perform()
    page.find("#to-grid")
    page.shows(DISTINCT, "#caught")
    page.find("#to-grid").click()
    page.shows(DISTINCT)
    assert "of the map" in page.text("#chip")
    page.find("#chip button").click()
    page.until(lambda: not page.visible("#chip"))


def test_enter_opens_the_clip_after_a_button_was_clicked(page):
    page.shows(TOTAL)
    for view, cells in (("grid", "#grid"), ("duplicates", "#groups")):
        page.run("for (const figure of document.querySelectorAll('figure')) figure.dataset.old = true")
        page.find(f"#views button[name={view}]").click()
        page.until(lambda cells=cells: page.visible(f"{cells} figure[aria-selected=true]:not([data-old])"))
        page.press(Keys.ENTER)
        page.until(lambda: page.visible("#open"))
        page.press(Keys.ESCAPE)
        page.until(lambda: not page.visible("#open"))
    page.press(Keys.ARROW_RIGHT, Keys.ENTER)  # the copy, beside the one kept
    page.until(lambda: page.run("return document.querySelector('#pair').children.length") == 2)


def test_a_button_reached_by_tab_takes_enter_until_arrows_move_on(page):
    page.shows(TOTAL)
    page.run("document.querySelector('#views button[name=threshold]').focus()")
    page.press(Keys.ENTER)
    page.until(lambda: page.visible("#threshold-view"))
    page.run("document.querySelector('#views button[name=grid]').focus()")
    page.press(Keys.ENTER)
    page.shows(TOTAL)
    page.press(Keys.ARROW_RIGHT, Keys.ENTER)
    page.until(lambda: page.visible("#open"))


def test_a_map_without_vectors_says_what_gives_them(page):
    page.run("""
        const map = await import('./page/map.js');
        map.show({vectors: [], words: [], measures: []});
    """)
    assert "derived=(SelfSupervised(),)" in page.text("#placed")
    assert "diorama.data.embed" in page.text("#placed")


def test_a_random_sample_gives_an_estimate(page):
    page.open("sample")
    page.find("#begin").click()
    judged = sum(page.run("return (await (await fetch('estimates')).json()).rules.map(r => r.judged)"))
    assert judged == 0
    page.until(lambda: page.run("return document.querySelector('#asked .answers')"))
    for k in range(4):
        page.press("d")
        page.until(lambda k=k: f"{k + 2} of {DISTINCT}" in page.text("#asked"))
    page.press("u")
    page.until(lambda: f"4 of {DISTINCT}" in page.text("#asked"))
    seen = page.run("return await (await fetch('estimates')).json()")
    assert sum(rule["judged"] for rule in seen["rules"]) + seen["kept"]["judged"] == 3
    page.until(lambda: " % (" in page.text("#estimates"))
    for view in ("duplicates", "compare"):
        page.open(view)
        page.until(lambda view=view: page.visible(f"#{view}-view"))

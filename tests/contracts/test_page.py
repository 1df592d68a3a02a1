"""The report's page in a real browser; oracle: what someone does with it, by mouse, by keyboard, on paper, without scripts.

Aimed at: a page that runs off a phone, a column that sorts as text, a filter that forgets a table, a control that no key
reaches, a figure that paper lacks, colours that cannot be read, a request that leaves the file.
"""

import shutil
from itertools import pairwise

import pytest
from test_report import TASKS, made, parameters, results  # noqa: F401

from pcbench.report.build import build
from pcbench.report.table import STAGE_OF

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (360, 768, 1440)
PAPER = 1017  # A4 on its side less its margins, in CSS pixels
OVERFLOWS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
ROWS = (
    "(table) => [...table.tBodies].map((body) => [...body.rows].filter((row) => row.cells.length > 1 && !row.hidden))"
)
LABELS = f"(table) => ({ROWS})(table).map((rows) => rows.map((row) => row.cells[0].innerText))"


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(made, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("report")
    return out / "index.html", build(made, out, "default", parameters())


@pytest.fixture
def opened(browser, report):
    """Opens the page with the settings given; afterwards nothing may have gone wrong, and nothing have been asked for."""
    address, contexts, wrong, asked = report[0].as_uri(), [], [], []

    def opened(**settings):
        context = browser.new_context(reduced_motion="reduce", **settings)  # a jump is there at once
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
    assert {url.partition("#")[0] for url in asked} == {address}


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")


def press(page, locator, key="Enter"):
    locator.focus()
    page.keyboard.press(key)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_runs_off_the_screen_and_what_does_is_in_a_box_that_keys_scroll(opened, width):
    page = opened(viewport={"width": width, "height": 800}, bypass_csp=True)  # Playwright's waiting evaluates text
    unfold(page)
    assert not page.evaluate(OVERFLOWS)
    boxes = page.locator("table").evaluate_all(
        "(tables) => tables.map((each) => each.parentElement).map((box) => [box.tabIndex, getComputedStyle(box).overflowX])"
    )
    assert boxes and all(box == [0, "auto"] for box in boxes)
    if width == min(WIDTHS):
        box = page.get_by_role("region", name="Table 2", exact=True)
        press(page, box, "ArrowRight")
        page.wait_for_function("document.activeElement.scrollLeft > 0")


ORDERS = f"""(table, column) => [1, 2, 3].map(() => {{
  const heads = [...table.tHead.rows[0].cells];
  heads[column].querySelector("button").click();
  return [heads.map((head) => head.getAttribute("aria-sort")), ({LABELS})(table)];
}})"""


def test_every_column_of_every_table_sorts_and_says_so(opened):
    tables = opened().locator("table")
    assert tables.count() > 2 * len(STAGE_OF)
    for table in tables.all():
        before = table.evaluate(LABELS)
        width = table.locator("thead th").count()
        for column in range(width):
            states = []
            for heads, labels in table.evaluate(ORDERS, column):
                assert [state for i, state in enumerate(heads) if i != column] == [None] * (width - 1)
                states.append(heads[column])
                assert [sorted(group) for group in labels] == [sorted(group) for group in before]
            assert states == ["ascending", "descending", None] and labels == before


def column(table, name):
    """The texts of one column, a list a group."""
    heads = [head.replace("\u00a0", " ").strip() for head in table.locator("thead th").all_inner_texts()]
    index = heads.index(name)
    return table.evaluate(f"(table) => ({ROWS})(table).map((rows) => rows.map((row) => row.cells[{index}].innerText))")


def test_rows_are_sorted_by_their_numbers_and_what_is_missing_comes_last(opened, report):
    page, found = opened(), report[1]
    table = page.get_by_role("table", name="Every figure of Table 2")
    page.get_by_text("Every figure of Table 2").first.click()
    counted = [cell.get("operations") for task in found["tasks"].values() for cell in task["cost"].values()]
    known = sorted(count for count in counted if count is not None)
    assert None in counted and sorted(map(str, known)) != list(
        map(str, known)
    )  # as text the order would be another one
    for expected in (known, known[::-1]):
        press(page, table.get_by_role("button", name="operations", exact=True))
        (texts,) = column(table, "operations")
        assert texts == [*map(str, expected), *[""] * counted.count(None)]


def test_bit_identical_is_nearer_than_any_distance(opened):
    page = opened()
    table = page.get_by_role("table", name="Table 3:")
    press(page, table.get_by_role("button", name="IL, T = 20"), "Space")
    far = column(table, "IL, T = 20")[-1]
    assert [float(text) for text in far] == sorted(float(text) for text in far)
    cell = page.locator("#accuracy table:not(.records) tbody:last-of-type tr").last.locator("td").nth(1)
    cell.evaluate("(cell) => { cell.textContent = '0.1'; delete cell.dataset.rank; }")
    press(page, table.get_by_role("button", name="Z-IL"))
    press(page, table.get_by_role("button", name="Z-IL"))
    assert column(table, "Z-IL")[-1] == ["0.1", "bit-identical"]


def test_one_press_filters_every_table_and_figure_by_task(opened):
    page = opened()
    chips = page.get_by_role("group", name="Filter tables and figures by task")
    of_task = "main [data-task]:not(button)"
    everything = page.locator("main tbody tr:visible").count()
    first, second = (chips.get_by_role("button", name=name) for name in TASKS)
    press(page, first, "Space")
    assert first.get_attribute("aria-pressed") == "true" and "digits-mlp" in chips.get_by_role("status").inner_text()
    shown = page.locator(of_task).evaluate_all("(all) => all.filter((e) => !e.hidden).map((e) => e.dataset.task)")
    assert set(shown) == {TASKS[0]}
    for name in STAGE_OF:
        labels = [label for group in page.locator(f"#{name} table").first.evaluate(LABELS) for label in group]
        assert TASKS[1] not in labels and labels  # models and axes stay
    assert page.locator(f"figure [data-task={TASKS[1]}]:visible").count() == 0
    assert page.locator("figure svg:visible").count() > 0
    press(page, second)
    press(page, first)
    shown = page.locator(of_task).evaluate_all("(all) => all.filter((e) => !e.hidden).map((e) => e.dataset.task)")
    assert set(shown) == {TASKS[1]}
    press(page, chips.get_by_role("button", name="all"))
    assert page.locator("main tbody tr:visible").count() == everything
    assert second.get_attribute("aria-pressed") == "false"


def test_a_figure_leads_to_the_result_that_it_came_from_in_one_step(opened, report):
    page = opened()
    row = page.locator("#cost tbody tr", has_text=TASKS[0]).first
    press(page, row.get_by_role("link"))
    target = page.locator(":target")
    assert target.get_by_role("rowheader").inner_text().endswith(f"/cost/{TASKS[0]}.json")
    assert target.bounding_box()["y"] < page.viewport_size["height"]
    for name in (
        name for name, stage in STAGE_OF.items() if stage is not None
    ):  # a published value may have none beside it
        rows = page.locator(f"#{name} table:not(.records) tbody tr:not(.group)")
        assert rows.count() == rows.filter(has=page.locator("td:last-child a")).count() > 0


def test_keys_reach_everything_and_what_has_the_focus_is_seen(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    everything, reached = {"A", "BUTTON", "DIV", "SUMMARY"}, set()
    for _ in range(500):  # claims and their links come first
        if everything <= reached:
            break
        page.keyboard.press("Tab")
        name, width, style = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.tagName, s.outlineWidth, s.outlineStyle]; })()"
        )
        reached.add(name)
        assert style != "none" and width != "0px", name
    assert everything <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [min(WIDTHS), max(WIDTHS)])
def test_axe_finds_nothing_serious(opened, scheme, width):
    page = opened(color_scheme=scheme, viewport={"width": width, "height": 800})
    unfold(page)
    page.locator("thead button").first.click()
    page.locator("#filter button").last.click()
    found = axe.Axe().run(page).response["violations"]
    assert [
        (entry["id"], entry["nodes"][0]["target"]) for entry in found if entry["impact"] in ("serious", "critical")
    ] == []


VISIBLE = "(all) => all.filter((e) => e.checkVisibility() && e.getBoundingClientRect().height > 0).length"


def test_paper_has_everything_that_is_folded_in_and_nothing_is_cut_off(opened):
    page = opened(viewport={"width": PAPER, "height": 700})
    cells, folded = page.locator("main th, main td"), page.locator("details td")
    assert folded.evaluate_all(VISIBLE) == 0 < folded.count()
    page.emulate_media(media="print")
    assert cells.evaluate_all(VISIBLE) == cells.count()
    assert page.locator("svg").evaluate_all(VISIBLE) == page.locator("svg").count() > 0
    assert page.locator("nav, #filter").evaluate_all(VISIBLE) == 0
    assert not page.evaluate(OVERFLOWS)
    ink, paper = page.evaluate(
        "(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    assert (ink, paper) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")


def test_without_scripts_the_page_reads_in_full_and_shows_no_control_that_does_nothing(opened):
    with_scripts, page = opened(), opened(java_script_enabled=False)
    assert page.locator("button:visible").count() == 0 < with_scripts.locator("button:visible").count()
    rows = "main tbody tr:visible"
    assert page.locator(rows).count() == with_scripts.locator(rows).count() > 50
    page.get_by_text("Every figure of Table 1").first.click()
    assert page.get_by_role("table", name="Every figure of Table 1").is_visible()


def test_a_screen_reader_hears_what_each_part_is(opened):
    page = opened()
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    assert page.get_by_role("navigation", name="Contents").count() == 1
    assert page.locator("h1").count() == 1
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("thead th:not([scope=col]), tbody th:not([scope])").count() == 0
    assert page.locator("section:not([aria-labelledby])").count() == 0
    levels = page.locator("h1, h2, h3").evaluate_all("(all) => all.map((each) => Number(each.tagName[1]))")
    assert all(after - before <= 1 for before, after in pairwise(levels))

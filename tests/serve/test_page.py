"""The page in a real browser, by what people do with it: every flow, with the keyboard too, and for screen readers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from chromium import find_chromium
from personaplug.serve.security.api_keys import make_key
from personaplug.serve.settings import Settings
from serving import OPEN, Live, Parrot, listening, text_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = sync_api.expect

pytestmark = pytest.mark.slow

WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
VIEWS = ("chat", "people", "compare", "report")
CANARY = "<img src=x onerror=document.title='owned'>"
# Of the two people, one writes always the same so that what is shown can be foreseen.
ADA = [{"id": f"a{n}", "input": f"How was day {n}?", "output": f"grand{n}!!", "at": 1.7e9 + n * 4e6,
        "fields": {"mood": "good" if n % 2 else "bad"}} for n in range(6)]  # fmt: skip
BOB = [{"id": "b1", "input": CANARY, "output": f"Quite. {CANARY}", "at": 1.7e9}]
REPORT = "<style>:root { --x: #ff0000; } p { outline-color: var(--x); }</style>"
REPORT += "<main><h1>Worth it?</h1><p style='margin: 3px'>yes</p></main>"


class Held(Parrot):
    """A parrot that says a few words and then, while it is `held`, waits: an answer can be seen to grow."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = Event()
        self.let_go.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        self.let_go.clear()
        try:
            yield
        finally:
            self.let_go.set()

    def stream(self, prompt, sampling):
        for number, word in enumerate(super().stream(prompt, sampling)):
            if number == 3:
                self.let_go.wait(60)
            yield word


@pytest.fixture(scope="module")
def browser(request, tmp_path_factory) -> Iterator[Browser]:
    kept = getattr(request.config, "cache", None)  # unpacked once, where pytest keeps what lasts
    cache = kept.mkdir("chromium") if kept else tmp_path_factory.mktemp("chromium")
    with sync_api.sync_playwright() as playwright:
        found = find_chromium(playwright, cache)
        env = {**os.environ, **found.env}
        started = playwright.chromium.launch(executable_path=found.path, args=["--no-sandbox"], env=env)
        yield started
        started.close()


@pytest.fixture(scope="module")
def parrot() -> Held:
    return Held()


@pytest.fixture(scope="module")
def live(parrot, tmp_path_factory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(REPORT)
    service = text_service(folder / "users.db", parrot, OPEN, ("none", "recent", "dense"))
    with listening(service, folder / "users.db", folder / "report.html") as server:
        yield server


@contextmanager
def shown(browser: Browser, url: str, **options) -> Iterator[Page]:
    """The page in a window of its own; nothing may go wrong in it unseen, and it may ask nobody else."""
    context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light", "reduced_motion": "reduce", **options})
    page, wrong = context.new_page(), []
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and "status of 4" not in m.text else None)
    page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith((url, "blob:", "data:")) else None)
    page.goto(f"{url}/")
    yield page
    context.close()
    assert not wrong


@pytest.fixture
def people(live) -> None:
    """Ada and Bob as they were at first."""
    with live.client() as web:
        for user in web.get("/v1/users").json()["data"]:
            web.delete(f"/v1/users/{quote(user['id'], safe='')}")
        web.post("/v1/users/ada/history", json=ADA)
        web.post("/v1/users/bob/history", json=BOB)


@pytest.fixture
def page(browser, live, people) -> Iterator[Page]:
    with shown(browser, live.url) as page:
        yield page


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your question").first.fill(text)
    page.keyboard.press("Enter")


def answered(page: Page) -> None:
    expect(page.locator(".answer.busy")).to_have_count(0)
    expect(page.locator(".bars .bar").first).to_be_visible()


def held_back(page: Page, address: str) -> Callable[[], None]:
    """Hold the next request to an address back; returns what lets it through and waits for its response."""
    held: list[Route] = []
    expect(page.locator(".people-list a").first).to_be_attached()  # what began the page is not held back
    page.route(address, lambda route: held.append(route), times=1)  # noqa: PLW0108 - no method of a list will do there

    def let_through() -> None:
        while not held:
            page.wait_for_timeout(10)
        with page.expect_response(address) as response:
            held[0].continue_()
        response.value.finished()
        page.evaluate("new Promise((done) => setTimeout(done, 50))")  # the page has read it

    return let_through


def test_an_answer_grows_beside_the_one_without_the_persona(page, parrot):
    mine, bare = page.locator(".answer.mine .answer-text"), page.locator(".answer.bare .answer-text")
    with parrot.held():
        ask(page, "Tell me of your day, please, at some length, and leave nothing out")
        expect(mine).to_have_text(re.compile(r"\w"))
        expect(mine).to_have_attribute("aria-busy", "true")
        early = mine.inner_text()
    answered(page)
    assert len(early) < len(mine.inner_text())
    expect(mine).to_contain_text("grand5!!")  # the parrot shows what it was given
    expect(bare).not_to_contain_text("grand")
    expect(page.locator(".bars .bar")).to_have_count(4)
    expect(page.get_by_role("status")).to_contain_text("Answer:")


def test_an_answer_can_be_stopped(page, parrot):
    with parrot.held():
        ask(page, "a long question")
        page.get_by_role("button", name="Stop").first.click()
        expect(page.get_by_text("Stopped.").first).to_be_visible()


def test_a_follow_up_carries_the_conversation_and_starting_over_drops_it(page):
    ask(page, "first words")
    answered(page)
    ask(page, "second words")
    last = page.locator(".turn").nth(1).locator(".answer.bare .answer-text")
    expect(last).to_contain_text("first words")
    expect(page.locator(".answer.busy")).to_have_count(0)
    page.get_by_role("button", name="Start over").click()
    expect(page.locator(".turn")).to_have_count(0)


def test_what_carried_the_persona_is_corrected_and_the_same_is_asked_again(page, live):
    ask(page, "How are you?")
    answered(page)
    page.locator(".bars .bar").filter(has_text="grand5").click()
    page.get_by_role("button", name="Correct").click()
    page.get_by_label("Wrote").fill("splendid")
    page.get_by_role("button", name="Save").click()
    page.locator("li.changed").get_by_role("button", name="Ask again").last.click()
    expect(page.locator(".earlier")).to_contain_text("Before the change: ")
    expect(page.locator(".earlier")).to_contain_text("grand5!!")
    answered(page)
    expect(page.locator(".answer.mine .answer-text")).to_contain_text("splendid")
    with live.client() as web:
        found = web.get("/v1/users/ada/history/a5").json()
    assert (found["output"], found["at"], found["fields"]) == ("splendid", ADA[5]["at"], ADA[5]["fields"])


def test_what_carried_the_persona_is_removed_after_asking(page, live):
    ask(page, "How are you?")
    answered(page)
    page.locator(".bars .bar").filter(has_text="grand5").click()
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove for good").click()
    page.locator("li.gone").get_by_role("button", name="Ask again").click()
    answered(page)
    expect(page.locator(".answer.mine .answer-text")).not_to_contain_text("grand5")
    with live.client() as web:
        assert web.get("/v1/users/ada/history/a5").status_code == 404


def test_thumbs_and_better_answers_become_behaviours(page, live):
    ask(page, "How are you?")
    answered(page)
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_text("Kept as a good answer.").first).to_be_visible()
    ask(page, "And now?")
    expect(page.get_by_role("button", name="Bad answer")).to_have_count(1)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_label("What would ada rather read?").fill("marvellous")
    page.get_by_role("button", name="Keep this").click()
    expect(page.get_by_text("Kept as what they would say.").first).to_be_visible()
    with live.client() as web:
        better, good = web.get("/v1/users/ada/history", params={"limit": 2}).json()["data"]
    assert (good["input"], good["rating"]) == ("How are you?", 1)
    assert (better["input"], better["output"]) == ("And now?", "marvellous")


def test_texts_of_people_are_shown_and_never_run(page, live):
    page.goto(f"{live.url}/#people/bob")
    expect(page.locator(".entry")).to_contain_text(CANARY)
    page.locator(".entry").click()
    expect(page.locator(".opened")).to_contain_text(CANARY)
    assert page.title() == "People · personaplug"


def test_a_new_person_gets_a_text_by_hand(page, live):
    page.get_by_role("tab", name="People").click()
    page.get_by_label("New person's name").fill("zoë / k")
    page.keyboard.press("Enter")
    page.get_by_label("What they wrote or chose").fill("hello!")
    page.locator(".person").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Added.").first).to_be_visible()
    page.get_by_role("tab", name="Timeline").click()
    expect(page.locator(".entry")).to_contain_text("hello!")
    expect(page.locator(".people-list")).to_contain_text("zoë / k")
    with live.client() as web:
        assert web.get("/v1/users/zo%C3%AB%20%2F%20k").json()["behaviors"] == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param(
            "mail.csv",
            'input,output,at,rating,topic\n"hi, you?","fine\nand ""you""?",2024-05-01,0.9,day\n'
            "what?,something,yesterday,,\nshall we?,yes!!,1714730400,,plans\nok?,sure,,seven,\n",
            id="csv",
        ),
        pytest.param(
            "mail.jsonl",
            '{"input": "hi, you?", "output": "fine\\nand \\"you\\"?", "at": "2024-05-01", "rating": 0.9}\n\n'
            '{"output": "something", "at": "yesterday"}\n{"input": "shall we?", "output": "yes!!"}\n'
            '{"output": "sure", "rating": "seven"}\n',
            id="jsonl",
        ),
    ],
)
def test_a_file_is_looked_at_before_it_is_sent_and_bad_lines_are_named(page, live, name, content):
    page.goto(f"{live.url}/#people/bob")
    page.get_by_role("tab", name="Add").click()
    page.set_input_files("#upload", {"name": name, "mimeType": "text/plain", "buffer": content.encode()})
    bad = page.get_by_role("list", name="Bad lines").get_by_role("listitem")
    expect(bad).to_have_count(2)
    first, second = (4, 6) if name.endswith("csv") else (3, 5)
    expect(bad.nth(0)).to_contain_text(f"Line {first} at is 'yesterday'")
    expect(bad.nth(1)).to_contain_text(f"Line {second} rating is 'seven'")
    expect(page.get_by_role("region", name="The first good lines")).to_contain_text('fine and "you"?')
    with live.client() as web:
        assert web.get("/v1/users/bob").json()["behaviors"] == 1  # nothing was sent yet
        page.get_by_role("button", name="Add 2 texts").click()
        expect(page.locator(".look")).to_contain_text("2 texts added, 2 left out.")
        found = web.get("/v1/users/bob/history", params={"order": "asc"}).json()["data"]
    assert 'fine\nand "you"?' in [b["output"] for b in found]
    assert next(b for b in found if b["input"] == "hi, you?")["rating"] == 0.9


def test_a_file_can_be_dropped(page, live):
    page.goto(f"{live.url}/#people/bob")
    page.get_by_role("tab", name="Add").click()
    lines = r"{\"output\": \"one\"}\n{\"output\": \"two\"}"
    held = page.evaluate_handle(f"""() => {{
        const held = new DataTransfer();
        held.items.add(new File(["{lines}"], "mail.jsonl"));
        return held;
    }}""")
    page.dispatch_event(".drop", "drop", {"dataTransfer": held})
    expect(page.get_by_role("button", name="Add 2 texts")).to_be_visible()


def test_a_file_that_is_no_table_of_texts_is_refused_in_one_line(page, live):
    page.goto(f"{live.url}/#people/bob")
    page.get_by_role("tab", name="Add").click()
    page.set_input_files("#upload", {"name": "x.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"})
    expect(page.get_by_role("alert")).to_contain_text('no column "output"; its first line names: a, b')


def test_a_file_of_stars_is_taken_when_its_scale_is_chosen_and_not_before(page, live):
    page.goto(f"{live.url}/#people/bob")
    page.get_by_role("tab", name="Add").click()
    stars = {"name": "x.csv", "mimeType": "text/csv", "buffer": b"output,rating\nawful,1\ngreat,5\nfair,3\n"}
    page.set_input_files("#upload", stars)
    expect(page.get_by_role("alert")).to_contain_text("Line 3: the rating is 5")
    page.get_by_label("Ratings in the file").select_option("1:5")
    page.set_input_files("#upload", stars)
    page.get_by_role("button", name="Add 3 texts").click()
    expect(page.locator(".look")).to_contain_text("3 texts added")
    with live.client() as web:
        found = web.get("/v1/users/bob/history").json()["data"]
    assert {b["output"]: b["rating"] for b in found if b["rating"] is not None} == {"awful": 0, "great": 1, "fair": 0.5}


def test_a_person_is_exported_and_erased_with_a_receipt(page, live):
    page.goto(f"{live.url}/#people/ada")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "ada.zip"
    page.get_by_role("button", name="Erase …").click()
    dialog = page.get_by_role("dialog", name="Erase ada?")
    dialog.get_by_role("button", name="Keep").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Erase …").click()
    dialog.get_by_role("button", name="Erase for good").click()
    expect(page.locator(".receipt")).to_contain_text("Erasedada")
    expect(page.locator(".receipt")).to_contain_text("Texts6")
    expect(page.locator(".people-list")).not_to_contain_text("ada")
    with live.client() as web:
        assert web.get("/v1/users/ada").status_code == 404


def test_a_tab_that_was_chosen_stays_when_the_address_is_told_once_more(page, live):
    page.goto(f"{live.url}/#people/bob")
    page.get_by_role("tab", name="Add").click()
    page.get_by_label("What they wrote or chose").fill("half a sent")
    page.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")  # as where one was late
    expect(page.get_by_label("What they wrote or chose")).to_have_value("half a sent")


def test_a_tab_that_was_chosen_stays_when_the_person_is_known_later(page, live):
    with live.client() as web:
        web.post("/v1/users", json={"id": "zoe"})
    let_through = held_back(page, "**/v1/users/zoe")
    page.goto(f"{live.url}/#people/zoe")
    page.get_by_role("tab", name="Map").click()
    expect(page.get_by_text("Three texts are the least")).to_be_visible()
    let_through()
    expect(page.locator(".tiles")).to_contain_text("Texts0")
    expect(page.get_by_role("tab", name="Map")).to_have_attribute("aria-selected", "true")


def test_texts_that_come_late_are_not_shown_beside_newer_ones(page, live):
    page.get_by_label("Answer as").select_option("bob")
    expect(page.locator(".ideas")).to_contain_text("as bob would")
    let_through = held_back(page, "**/v1/users/bob/history?*")
    page.goto(f"{live.url}/#people/bob")
    page.get_by_role("tab", name="Add").click()
    page.get_by_label("What they wrote or chose").fill("hello!")
    page.locator(".person").get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("tab", name="Timeline").click()
    expect(page.locator(".entry")).to_have_count(2)
    let_through()
    expect(page.locator(".entry")).to_have_count(2)
    page.get_by_role("tab", name="Chat").click()
    page.get_by_role("tab", name="People").click()  # what is known is read again, and the tab stays
    expect(page.locator(".entry")).to_have_count(2)


def test_the_receipt_is_left_by_opening_somebody_else(page, live):
    page.goto(f"{live.url}/#people/ada")
    page.get_by_role("button", name="Erase …").click()
    let_through = held_back(page, "**/v1/users?*")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.locator(".receipt")).to_be_visible()
    page.locator(".people-list").get_by_text("bob").click()
    expect(page.locator(".entry")).to_have_count(1)
    let_through()
    expect(page.locator(".people-list")).not_to_contain_text("ada")
    expect(page.locator(".entry")).to_have_count(1)


def test_a_map_shows_each_text_and_is_coloured_by_time_or_by_a_field(page, live):
    page.goto(f"{live.url}/#people/ada")
    page.get_by_role("tab", name="Map").click()
    points = page.get_by_role("option").and_(page.locator("circle"))
    expect(points).to_have_count(6)
    page.get_by_label("Coloured by").select_option("mood")
    expect(page.locator(".legend")).to_contain_text("good")
    expect(page.locator(".legend")).to_contain_text("bad")
    page.get_by_role("listbox").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".readout .opened")).to_contain_text("grand")


def test_one_request_is_compared_across_people_and_across_methods(page, live):
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Your question").last.fill("Well?")
    page.keyboard.press("Enter")
    expect(page.locator(".columns .answer")).to_have_count(2)
    expect(page.locator(".columns .answer").first.locator(".top-bars li")).to_have_count(3)
    expect(page.locator(".columns .answer").first).to_contain_text("grand5!!")
    page.get_by_label("methods").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".columns .answer h4")).to_have_text(["none", "recent", "dense"])
    expect(page.locator(".columns .answer").nth(1).locator(".answer-text")).to_contain_text("grand")
    expect(page.locator(".columns .answer").nth(0).locator(".answer-text")).not_to_contain_text("grand")


def test_the_report_is_shown_in_the_page(page, live):
    page.get_by_role("tab", name="Report").click()
    expect(page.get_by_role("heading", name="Worth it?")).to_be_visible()
    told = page.locator(".report p")
    assert told.evaluate("e => [getComputedStyle(e).outlineColor, e.style.margin]") == ["rgb(255, 0, 0)", "3px"]


def test_the_theme_follows_the_system_until_it_is_switched_and_is_remembered(browser, live, people):
    with shown(browser, live.url, color_scheme="dark") as page:
        body, dark, light = page.locator("body"), "rgb(19, 18, 23)", "rgb(246, 245, 242)"
        expect(body).to_have_css("background-color", dark)
        page.emulate_media(color_scheme="light")
        expect(body).to_have_css("background-color", light)
        page.get_by_role("button", name="Dark theme").click()
        expect(body).to_have_css("background-color", dark)
        page.reload()
        expect(body).to_have_css("background-color", dark)
        expect(page.get_by_role("button", name="Dark theme")).to_have_attribute("aria-pressed", "true")


def test_the_keyboard_is_enough(page):
    def to(role: str, name: str) -> None:
        """Tab until it has the focus."""
        wanted = page.get_by_role(role, name=name).first
        for _ in range(60):
            page.keyboard.press("Tab")
            if wanted.evaluate("e => e === document.activeElement"):
                return
        raise AssertionError(f"the {role} {name!r} is never reached")

    to("tab", "Chat")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-people")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#panel-chat")).to_be_visible()
    to("textbox", "Your question")
    page.keyboard.type("How are you?")
    page.keyboard.press("Enter")
    answered(page)
    page.locator(".turn").first.press("Tab")
    bar = page.locator(".bars .bar").first
    bar.focus()
    page.keyboard.press("Enter")
    expect(bar).to_have_attribute("aria-expanded", "true")
    to("button", "Correct")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Wrote")).to_be_focused()
    to("button", "Cancel")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Correct")).to_be_focused()


def test_nobody_there_yet_leads_to_people_to_try(browser, live):
    with live.client() as web:
        for user in web.get("/v1/users").json()["data"]:
            web.delete(f"/v1/users/{quote(user['id'], safe='')}")
    with shown(browser, live.url) as page:
        page.get_by_role("button", name="Try without data").first.click()
        expect(page.locator(".ideas .chip")).to_have_count(3, timeout=60_000)
        page.locator(".ideas .chip").first.click()
        answered(page)


def test_a_server_with_keys_asks_for_one_and_tells_what_a_key_may_not(browser, tmp_path):
    path = tmp_path / "users.db"
    with listening(text_service(path, Parrot(), Settings(rate=0, user_rate=0)), path) as live:
        writer, reader = (make_key(live.keys, scopes=s)[1] for s in (["read", "write"], ["read"]))
        with live.client(writer) as web:
            web.post("/v1/users/ada/history", json=ADA)
        with shown(browser, live.url) as page:
            expect(page.get_by_role("alert")).to_contain_text("No valid key")
            page.get_by_role("button", name="Enter a key").click()
            page.get_by_label("API key").fill(reader)
            page.keyboard.press("Enter")
            expect(page.get_by_label("Answer as")).to_have_value("ada")
            page.goto(f"{live.url}/#people/ada")
            page.locator(".entry").first.click()
            page.get_by_role("button", name="Remove").click()
            page.get_by_role("button", name="Remove for good").click()
            expect(page.get_by_role("alert")).to_contain_text("This key may not write")
            page.reload()
            expect(page.locator(".entry").first).to_be_visible()  # kept as long as the tab


def test_a_server_that_has_gone_is_told_of_in_one_line(browser, tmp_path):
    path = tmp_path / "users.db"
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    with listening(text_service(path, Parrot(), OPEN), path) as live, live.client() as web:
        web.post("/v1/users/ada/history", json=ADA)
        page.goto(f"{live.url}/")
        expect(page.locator(".ideas .chip").first).to_be_visible()
    ask(page, "Still there?")
    expect(page.locator(".answer.mine").get_by_role("alert")).to_contain_text("The server does not answer")
    expect(page.locator(".answer.mine").get_by_role("button", name="Try again")).to_be_visible()
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_no_view_has_a_serious_fault_for_screen_readers_or_scrolls_sideways(browser, live, people, theme, viewport):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()

    def good(where: str) -> None:
        found = axe.run(page).response["violations"]
        serious = {v["id"]: [n["html"] for n in v["nodes"]] for v in found if v["impact"] in ("serious", "critical")}
        assert not serious, where
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], where

    with shown(browser, live.url, color_scheme=theme, viewport=viewport) as page:
        expect(page.locator(".ideas .chip").first).to_be_visible()
        good("chat, before")
        ask(page, "How are you?")
        answered(page)
        page.locator(".bars .bar").first.click()
        page.get_by_role("button", name="Bad answer").click()
        page.get_by_role("button", name="Correct").click()
        good("chat, everything open")
        page.goto(f"{live.url}/#people")
        good("people")
        page.locator(".people-list a").first.click()
        page.locator(".entry").first.click()
        good("a timeline")
        page.get_by_role("tab", name="Map").click()
        expect(page.locator(".chart")).to_be_visible()
        good("a map")
        page.get_by_role("tab", name="Add").click()
        content = b"output,at\nyes,never\n" + b"a-word-without-an-end" * 40 + b",2024-01-01\n"
        page.set_input_files("#upload", {"name": "x.csv", "mimeType": "text/csv", "buffer": content})
        expect(page.get_by_role("button", name=re.compile("Add 1 text"))).to_be_visible()
        good("adding")
        page.get_by_role("button", name="Erase …").click()
        good("erasing")
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Compare").click()
        page.get_by_label("Your question").last.fill("Well?")
        page.keyboard.press("Enter")
        expect(page.locator(".top-bars").first).to_be_visible()
        good("compare")
        page.get_by_role("tab", name="Report").click()
        expect(page.locator(".report")).to_be_visible()
        good("report")

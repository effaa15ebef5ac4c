from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, Route, expect

from daemon.core.errors import Failed, StoreUnavailable
from daemon.core.job import SERVER_TIME, Collection
from models.errors import GenerationFailed
from tests.browser.conftest import Served
from tests.daemon.rig import Rig, until
from tests.entrypoints.page.running import serving

HOSTILE = (
    "</p><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "{{7*7}} ${alert(1)} javascript:alert(1) \u202e\u2028 '\"`"
)


def live(page: Page, served: Served) -> None:
    """Open the page and wait until it shows what is."""
    page.goto(served.address)
    expect(page.locator("#connection")).to_have_text("Live")


def section(page: Page, name: str) -> Locator:
    """One of the page's cards."""
    return page.locator(f"section[aria-labelledby={name}-title]")


def submit(page: Page, prompt: str) -> None:
    """Fill in the form and send it."""
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Make it").click()


def bar(page: Page) -> float:
    """How far the first running job's bar is, in percent."""
    return float(page.locator("#running progress").first.evaluate("bar => bar.value"))


def test_an_empty_worker_says_so_everywhere(page: Page, served: Served) -> None:
    """Nothing queued, nothing made, nothing failed: each in words, and the worker claims."""
    live(page, served)
    for words in ("Nothing runs.", "Nobody waits.", "No picture yet.", "Nothing has failed."):
        expect(page.get_by_text(words)).to_be_visible()
    expect(section(page, "health")).to_contain_text("Claiming jobs")
    expect(section(page, "health")).to_contain_text("hears changes")


def test_what_is_not_known_yet_is_loading_and_not_empty(page: Page, served: Served) -> None:
    """While the page connects, and where the store gives no answer from the beginning: nothing is claimed."""
    assert served.rig.running is not None
    store = served.rig.running.service.worker.publisher.store
    answers = store.newest

    def away(**_: object) -> None:
        raise StoreUnavailable("no answer")

    store.newest = away  # type: ignore[method-assign,assignment]
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/page/about", hold)
    page.goto(served.address)
    expect(page.locator("#connection")).to_have_text("Connecting…")
    expect(page.get_by_text("Loading…")).to_have_count(4)
    until(lambda: bool(page.evaluate("1") and held), "the page asks")
    held.pop().continue_()
    expect(page.get_by_role("alert")).to_have_text("The job store is away: no answer")
    expect(page.get_by_text("Nothing runs.")).to_be_visible()  # this worker knows what it holds itself
    expect(page.get_by_text("Loading…")).to_have_count(3)
    store.newest = answers  # type: ignore[method-assign]
    expect(page.get_by_text("No picture yet.")).to_be_visible()
    expect(page.get_by_text("Loading…")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_prompt_becomes_a_picture_before_ones_eyes(page: Page, served: Served) -> None:
    """Typed, sent with the keyboard, its bar moves step by step, and the picture is there without a reload."""
    served.rig.device.hold()
    live(page, served)
    page.get_by_label("Prompt").fill("a red circle")
    page.get_by_label("Prompt").press("Control+Enter")
    expect(page.locator("#running .row")).to_have_count(1)
    served.rig.device.step(5)
    expect(page.locator("#running")).to_contain_text("Step 5 of 20")
    assert bar(page) == 25
    preview = page.locator("#running img")
    until(lambda: bool(preview.evaluate("image => image.complete && image.naturalWidth")), "the preview is loaded")
    served.rig.device.step(5)
    expect(page.locator("#running")).to_contain_text("Step 10 of 20")
    assert bar(page) == 50
    served.rig.device.let_go()
    picture = page.locator("#results img")
    expect(picture).to_have_count(1)
    until(lambda: bool(picture.evaluate("image => image.complete && image.naturalWidth")), "the picture is loaded")
    assert picture.evaluate("image => image.naturalWidth") == 512
    expect(page.locator("#mine img")).to_have_count(1)
    expect(page.get_by_text("Nothing runs.")).to_be_visible()


def test_a_video_plays_in_place(page: Page, served: Served) -> None:
    """The file comes from the page's own server, in ranges, and the browser can play it."""
    live(page, served)
    page.get_by_text("Video", exact=True).click()
    submit(page, "a ball that rolls")
    video = page.locator("#results video")
    expect(video).to_have_count(1)
    until(lambda: video.evaluate("video => video.readyState") >= 1, "the video's metadata is loaded")
    assert video.evaluate("video => video.duration") == 2
    video.evaluate("video => video.play()")
    until(lambda: video.evaluate("video => video.currentTime") > 0, "the video plays")


def test_a_running_job_is_cancelled_and_tried_again(page: Page, served: Served) -> None:
    """The button ends it for its client too; it then stands among the failures, whose button queues it again."""
    served.rig.device.hold()
    job = served.rig.call("one", prompt="slow")
    live(page, served)
    page.get_by_role("button", name="Cancel: slow").click()
    expect(section(page, "failures")).to_contain_text("Cancelled by the operator")
    assert served.rig.fields(job)["error_type"] == "Exception"
    until(lambda: served.rig.service_sees_end(job), "the worker knows", within=5.0)
    served.rig.device.let_go()
    page.get_by_role("button", name="Retry: slow").click()
    expect(page.locator("#results img")).to_have_count(1)
    expect(page.get_by_text("Nothing has failed.")).to_be_visible()


def test_a_job_that_waits_says_how_many_are_before_it(page: Page, served: Served) -> None:
    """The one that was submitted here too, in its own place below the form; and when, once enough jobs have ended."""
    rig = served.rig
    for number in range(3):
        made = {"result": {"finished_at": rig.store.now()}, "timings": {"total": 9.0}}
        rig.client.set(
            f"generations/u/images/done{number}", {"status": "completed", "created_at": SERVER_TIME, "easeld": made}
        )
    rig.device.hold()
    rig.call("runs", prompt="runs", num_inference_steps=50)
    until(lambda: bool(rig.device.calls), "the device has it")
    rig.call("first", prompt="first", width=320)
    live(page, served)
    submit(page, "second")
    rows = page.locator("#queue .row")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text(re.compile(r"Next, begins in about 3\.\d s · queued just now"))
    expect(rows.nth(1)).to_contain_text(re.compile(r"1 before it, begins in about [67]\.\d s · queued just now"))
    expect(page.locator("#mine")).to_contain_text("1 before it")
    expect(page.locator("#queue-wait")).to_contain_text("of work at the pace of late")


def test_failures_are_grouped_by_type_with_their_messages(page: Page, served: Served) -> None:
    """What a client reads in its document, the operator reads here."""

    def fail(_: object) -> None:
        raise GenerationFailed("the pipeline broke")

    served.rig.device.trouble = fail
    served.rig.call("one")
    served.rig.call("two")
    live(page, served)
    expect(page.locator("#failure-types")).to_have_text(re.compile(rf"{Failed('').error_type} × 2"))
    expect(section(page, "failures").get_by_text("the pipeline broke")).to_have_count(2)


def test_every_parameter_is_shown_and_the_same_seed_is_asked_for_again(page: Page, served: Served) -> None:
    """The details name what made the picture; once more makes the very same picture."""
    live(page, served)
    served.rig.call("one", prompt="a square", seed=7, guidance_scale=3.5, negative_prompt="rain", width=320)
    page.get_by_role("button", name="Details: a square").click()
    details = page.get_by_role("dialog")
    for words in ("a square", "320", "3.5", "rain", "7", "shapes"):
        expect(details).to_contain_text(words)
    details.get_by_role("button", name="Again with this seed").click()
    expect(details).not_to_be_visible()
    expect(page.locator("#results .tile")).to_have_count(2)
    first, second = served.rig.device.calls
    assert first == second


def test_a_hostile_prompt_is_text_and_nothing_else(page: Page, served: Served) -> None:
    """Among the results, in the details and among the failures: every character, no element, no script."""
    rig = served.rig
    rig.call("good", prompt=HOSTILE, negative_prompt=HOSTILE)
    rig.set_anew(rig.call("bad"), prompt=HOSTILE, width="<b>wide</b>", user_id="u", file_uid="bad")
    live(page, served)
    expect(page.locator("#results .prompt")).to_have_text(HOSTILE, use_inner_text=False)
    expect(page.locator("#failures .prompt")).to_have_text(HOSTILE, use_inner_text=False)
    page.locator("#results .tile-details").click()
    expect(page.locator("#details-prompt")).to_have_text(HOSTILE, use_inner_text=False)
    expect(page.locator("#details-facts")).to_contain_text("onerror")
    assert page.locator('[src="x"], main script, dialog script, main b.hostile, [onerror]').count() == 0
    assert page.title() == "easeld"


def test_addresses_of_elsewhere_on_a_document_are_not_followed(page: Page, served: Served) -> None:
    """A client's own field cannot make the operator's browser call another site or run a script."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    rig = served.rig
    elsewhere = ["https://example.invalid/spy.png", "javascript:alert(1)", "data:text/html,hello"]
    rig.client.set(
        "generations/u/images/spy",
        {"prompt": "spy", "status": "completed", "created_at": SERVER_TIME, "images": elsewhere},
    )
    live(page, served)
    expect(page.locator("#results .tile")).to_have_count(1)
    expect(page.locator("#results")).to_contain_text("The file is gone")
    assert all(address.startswith(served.address) for address in asked)


def test_a_lost_server_is_told_and_found_again(page: Page, served: Served) -> None:
    """The page says that it is disconnected, keeps what it showed, and goes on by itself when the server is back."""
    served.rig.call("one", prompt="before")
    live(page, served)
    expect(page.locator("#results .tile")).to_have_count(1)
    served.stop()
    expect(page.locator("#connection")).to_contain_text("Disconnected")
    expect(page.locator("#results .tile")).to_have_count(1)
    served.rig.call("two", prompt="meanwhile")
    served.start()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#results .tile")).to_have_count(2)


def test_a_refused_form_says_why_in_the_contracts_words(page: Page, served: Served) -> None:
    """The form goes through the same check as a call; its message stands beside the button."""
    live(page, served)
    submit(page, "")
    expect(page.locator("#form-trouble")).to_have_text("prompt is required")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Steps", exact=True).fill("1000")
    page.get_by_text("More", exact=True).click()  # a field out of sight is complained of all the same
    submit(page, "a red circle")
    expect(page.locator("#form-trouble")).to_have_text("num_inference_steps must be between 10 and 50")


def test_a_page_with_a_token_asks_for_it_first(page: Page, rig: Rig) -> None:
    """Nothing is shown before; a wrong one is refused in words; the right one is remembered over a reload."""
    with rig.worker(), serving(rig, page_token="a token of the test") as address:
        rig.call("one", prompt="behind the token")
        page.goto(address)
        token = page.get_by_label("Token")
        expect(token).to_be_focused()
        expect(page.locator("main")).to_be_hidden()
        token.fill("a wrong token")
        token.press("Enter")
        expect(page.locator("#toast")).to_contain_text("missing or wrong")
        token.fill("a token of the test")
        token.press("Enter")
        expect(page.locator("#results")).to_contain_text("behind the token")
        page.reload()
        expect(page.locator("#results")).to_contain_text("behind the token")


def test_a_narrow_screen_needs_no_sideways_scrolling(page: Page, served: Served) -> None:
    """On a phone everything is in one column, and every button is large enough for a thumb."""
    page.set_viewport_size({"width": 360, "height": 740})
    served.rig.call("one", prompt="W" * 300)
    served.rig.call("clip", collection=Collection.VIDEOS, prompt="a clip", num_frames=16)
    live(page, served)
    expect(page.locator("#results .tile")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    sizes = page.locator("button:visible").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert min(sizes) >= 40


def test_the_page_works_by_keyboard_alone(page: Page, served: Served) -> None:
    """From the top: tab to the prompt, type, tab to the button, press it; then open and close the picture."""
    live(page, served)
    page.keyboard.press("Tab")  # the kind: image
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Video")).to_be_checked()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Tab")  # more
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    tile = page.locator("#results .frame button")
    tile.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("by keyboard")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).not_to_be_visible()
    expect(tile).to_be_focused()


def test_dark_and_light_follow_the_system(page: Page, served: Served) -> None:
    """The same page in both, by the browser's preference."""
    live(page, served)
    colours = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colours["light"] != colours["dark"]


def test_a_store_that_is_away_is_told_while_the_page_stays(page: Page, served: Served) -> None:
    """What was known stays shown under a line of trouble."""
    served.rig.call("one", prompt="kept")
    live(page, served)
    expect(page.locator("#results .tile")).to_have_count(1)
    store = served.rig.running.service.worker.publisher.store  # type: ignore[union-attr]

    def away(**_: object) -> None:
        raise StoreUnavailable("no answer")

    store.newest = away  # type: ignore[method-assign]
    expect(page.get_by_role("alert")).to_have_text("The job store is away: no answer")
    expect(page.locator("#results .tile")).to_have_count(1)

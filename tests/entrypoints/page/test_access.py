"""Who may see the page and change something from it."""

from __future__ import annotations

import pytest

from daemon import settings
from daemon.core.errors import WrongSettings
from daemon.entrypoints.page import routes
from tests.daemon.rig import Rig
from tests.entrypoints.page.conftest import Caller

PROMPT = {"prompt": "x", "num_inference_steps": 10}


def test_the_page_forbids_markup_and_every_outside_address(shared_caller: Caller) -> None:
    """Its policy names no other origin, no inline script, and no frame around it."""
    policy = shared_caller.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "trusted-types 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("part", ["page/page.css", "page/page.js", "page/icon.svg"])
def test_its_parts_come_from_the_same_server(shared_caller: Caller, part: str) -> None:
    """Three files beside the page, and nosniff on each."""
    answer = shared_caller.get(f"/{part}")
    assert answer.status == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/", "/page/about", "/page/events", "/page/media/u/image/a.png"])
def test_a_foreign_name_that_points_here_is_refused(shared_caller: Caller, path: str, host: str) -> None:
    """DNS rebinding: the browser believes that we are the attacker's own site."""
    assert shared_caller.get(path, Host=host).status in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "[::1]:80"])
def test_every_name_of_this_machine_is_answered(shared_caller: Caller, host: str) -> None:
    """Whichever loopback name the operator types."""
    assert shared_caller.get("/page/about", Host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X_Easeld_Page": "1", "Origin": "https://evil.example"},
        {"X_Easeld_Page": "1", "Origin": "null"},
        {"X_Easeld_Page": "1", "Origin": "http://127.0.0.1:1"},
        {"X_Easeld_Page": "1", "Sec_Fetch_Site": "cross-site"},
        {"X_Easeld_Page": "1", "Sec_Fetch_Site": "same-site"},
        {"X_Easeld_Page": "1", "Sec_Fetch_Site": "none"},
        {"Content_Type": "text/plain", "Origin": "https://evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/page/jobs", "/page/again", "/page/cancel", "/page/retry", "/page/session"])
def test_no_other_site_changes_anything(shared_caller: Caller, path: str, headers: dict[str, str]) -> None:
    """A form, a script or an image elsewhere can send none of it."""
    answer = shared_caller.post(path, {**PROMPT, "job": "generations/u/images/a"}, **headers)
    assert answer.status == 403
    assert answer.json["status"] == "failed"


def test_no_other_site_embeds_pictures_or_holds_streams(shared_caller: Caller) -> None:
    """What a browser marks as another site's request is refused."""
    for site in ("cross-site", "same-site"):
        assert shared_caller.get("/page/events", Sec_Fetch_Site=site).status == 403
        assert shared_caller.get("/page/about", Sec_Fetch_Site=site).status == 403


def test_no_preflight_is_ever_allowed(shared_caller: Caller) -> None:
    """So no other site's script may send our header."""
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with shared_caller.open("OPTIONS", "/page/jobs", headers=asked) as answer:
        assert answer.status == 405
        assert not [name for name, _ in answer.getheaders() if name.lower().startswith("access-control")]


def test_with_a_token_nothing_is_seen_without_it(token_caller: Caller) -> None:
    """The empty page is shown, whatever the name; jobs, media and changes want the token."""
    assert token_caller.get("/", Host="page.example").status == 200
    for path in ("/page/about", "/page/events", "/page/media/u/image/a.png"):
        assert token_caller.get(path).status == 401
        assert token_caller.get(path, Cookie="easeld-page=guess").status == 401
        assert token_caller.get(path, Authorization="Bearer guess").status == 401
    assert token_caller.change("/page/jobs", PROMPT).status == 401


def test_the_token_opens_a_session(token_caller: Caller) -> None:
    """The cookie is not the token, and no script and no other site gets hold of it."""
    assert token_caller.change("/page/session", {"token": "a wrong one"}).status == 401
    answer = token_caller.change("/page/session", {"token": "a token of the test"})
    cookie = answer.headers["set-cookie"]
    assert "a token of the test" not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    pair = cookie.partition(";")[0]
    assert token_caller.get("/page/about", Cookie=pair).status == 200
    assert token_caller.change("/page/jobs", PROMPT, Cookie=pair).status == 200
    assert token_caller.get("/page/about", Authorization="Bearer a token of the test").status == 200


def test_others_get_the_page_only_with_a_token(rig: Rig) -> None:
    """An address that others reach has no page without one, and the page can be turned off."""
    with rig.worker() as running:
        plain = settings.load(data=rig.folder)
        assert routes.router(plain, running.service, host="127.0.0.1") is not None
        assert routes.router(plain, running.service, host="0.0.0.0") is None  # noqa: S104
        with_token = settings.load(data=rig.folder, page_token="a token of the test")
        assert routes.router(with_token, running.service, host="0.0.0.0") is not None  # noqa: S104
        off = settings.load(data=rig.folder, page=False)
        assert routes.router(off, running.service, host="127.0.0.1") is None


def test_a_short_token_is_refused_at_the_start() -> None:
    """It could be guessed: nobody counts the tries."""
    with pytest.raises(WrongSettings, match="EASELD_PAGE_TOKEN"):
        settings.load(page_token="short")

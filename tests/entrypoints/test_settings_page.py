from __future__ import annotations

from daemon.entrypoints import settings_page
from daemon.settings import Settings


def test_the_page_in_the_repository_is_what_the_settings_say() -> None:
    """Whoever changes a setting writes the page anew: python -m daemon.entrypoints.settings_page."""
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page()


def test_every_setting_is_on_the_page_and_described() -> None:
    """No setting without its variable, its line of TOML, and words."""
    page = settings_page.page()
    for name, field in Settings.model_fields.items():
        assert f"| `EASELD_{name.upper()}` | `{name}` |" in page
        assert field.description

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


def test_the_environment_file_of_the_services_is_what_the_settings_say() -> None:
    """The same command writes it."""
    assert settings_page.ENVIRONMENT_FILE.read_text(encoding="utf-8") == settings_page.environment_file()


def test_the_environment_file_changes_nothing_until_somebody_edits_it() -> None:
    """Every setting is there, and every line is a comment."""
    lines = settings_page.environment_file().splitlines()
    assert all(line.startswith("#") for line in lines if line)
    for name in Settings.model_fields:
        assert any(line.startswith(f"#EASELD_{name.upper()}=") for line in lines)

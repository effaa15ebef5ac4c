"""The peers of row d where they are not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import peer


def test_a_peer_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its row is left out with these words."""
    monkeypatch.setattr(peer, "ENVIRONMENTS", tmp_path)
    for its in (peer.litserve(8), peer.runpod(), peer.celery(tmp_path)):
        with pytest.raises(peer.PeerMissing, match="is not installed: make peers"), its:
            pass


def test_celery_without_redis_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Redis is no Python package."""
    python = tmp_path / "celery" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(peer, "ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(peer.PeerMissing, match="apt-get install redis-server"), peer.celery(tmp_path):
        pass

"""What the settings say is served, and the rules of it: light to import, so that client commands can tell, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from daemon.core.errors import WrongSettings
from daemon.core.policy import Fleet, Policy
from daemon.settings import Settings
from models import catalog
from models.spec import Family, ModelSpec, Task


def catalogue(settings: Settings) -> Mapping[str, ModelSpec]:
    """Every model that could be served.

    Raises:
        WrongSettings: an entry of the operator's own cannot be used.
    """
    try:
        return catalog.with_entries(settings.catalog)
    except catalog.WrongEntry as exc:
        raise WrongSettings(f"EASELD_CATALOG: {exc}") from exc


def served(settings: Settings) -> dict[str, ModelSpec]:
    """The models that the settings name, in their order.

    Raises:
        WrongSettings: there is no such model, or none at all.
    """
    if not settings.models:
        raise WrongSettings("EASELD_MODELS: name at least one model")
    models = _models("EASELD_MODELS", settings.models, settings)
    if settings.step_cache > 0:  # it looks at a whole call: in company, a video would depend on its neighbours
        return {
            name: replace(spec, max_batch=1) if spec.family is Family.WAN else spec for name, spec in models.items()
        }
    return models


def policy(settings: Settings, models: Mapping[str, ModelSpec]) -> Policy:
    """What a worker with these settings decides by.

    Raises:
        WrongSettings: the declared fleet names a model that there is not.
    """
    everywhere = _models("EASELD_FLEET", settings.fleet, settings)
    fleet = Fleet(models=frozenset(everywhere), defaults=_defaults(everywhere), unserved_after=settings.unserved_after)
    return Policy(
        models=models,
        defaults=_defaults(models),
        fleet=fleet if everywhere else None,
        lease_seconds=settings.lease,
        settling_seconds=settings.settling,
        max_queue_seconds=settings.max_queue_age,
        max_attempts=settings.max_attempts,
        max_prompt_characters=settings.max_prompt,
    )


def _models(setting: str, names: Sequence[str], settings: Settings) -> dict[str, ModelSpec]:
    known = catalogue(settings)
    if unknown := [name for name in names if name not in known]:
        raise WrongSettings(f"{setting}: no such model: {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: known[name] for name in names}


def _defaults(models: Mapping[str, ModelSpec]) -> dict[Task, str]:
    """The first model of each task."""
    defaults: dict[Task, str] = {}
    for name, spec in models.items():
        defaults.setdefault(spec.task, name)
    return defaults

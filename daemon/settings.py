"""Every setting, typed: from the environment (``EASELD_*``) and a TOML file, the environment first."""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path, user_data_path
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from daemon.core.errors import WrongSettings
from models.spec import Attention, Compile, Speed

CONFIG = "EASELD_CONFIG"  # the environment variable that names the TOML file


class StoreKind(StrEnum):
    """Where jobs come from."""

    SQLITE = "sqlite"
    FIRESTORE = "firestore"


class BlobsKind(StrEnum):
    """Where media go."""

    FOLDER = "folder"
    GCS = "gcs"


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[list[str], NoDecode, BeforeValidator(_listed)]
Secrets = Annotated[list[Annotated[SecretStr, Field(min_length=1)]], NoDecode, BeforeValidator(_listed)]


class Settings(BaseSettings):
    """Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="EASELD_", extra="forbid", hide_input_in_errors=True)

    store: StoreKind = Field(StoreKind.SQLITE, description="Where jobs come from: `sqlite` or `firestore`.")
    blobs: BlobsKind | None = Field(
        None, description="Where media go: `folder` or `gcs`. Default: `folder` with SQLite, `gcs` with Firestore."
    )
    data: Path = Field(
        default_factory=lambda: user_data_path("easeld"), description="Folder of the embedded store and media."
    )
    state: Path | None = Field(None, description="Folder that remembers claims across restarts. Default: in `data`.")
    cache: Path = Field(default_factory=lambda: user_cache_path("easeld"), description="Folder of model files.")

    project: str | None = Field(None, description="Google Cloud project. Default: that of the credentials.")
    database: str = Field("(default)", description="Firestore database.")
    credentials_json: SecretStr | None = Field(
        None, description="A service account's key as JSON text. Default: application default credentials."
    )
    bucket: str | None = Field(None, description="Cloud Storage bucket; required with `gcs`.")
    public_base: str = Field(
        "https://storage.googleapis.com", description="Start of the media's addresses with `gcs`, before the bucket."
    )
    addresses: Literal["public", "signed", "token"] = Field(
        "public", description="Form of the media's addresses with `gcs`: `signed` ones are good for seven days."
    )
    prefix: str = Field("generating", min_length=1, max_length=40, description="First folder of every object's name.")

    worker: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", description="This worker's name, in leases."
    )
    models: Names = Field(
        default=["shapes", "motion"],
        description="Models to serve, comma-separated; the first of a task is its default.",
    )
    catalog: dict[str, Any] = Field(
        default_factory=dict, description="Models of your own, by name; see docs/models.md. JSON in the environment."
    )
    fleet: Names = Field(
        default=[],
        description="Models that all workers together serve, by commas; the first of a task is its default. With it, "
        "jobs that none of them serves fail instead of waiting.",
    )
    unserved_after: float = Field(600.0, ge=0.0, description="With `fleet`: how long a job of no served task waits.")
    device: str | None = Field(None, description="`cuda`, `mps` or `cpu`. Default: the first of these that is there.")
    max_batch: int = Field(4, ge=1, le=64, description="Pictures or videos in one pipeline call, at most.")
    exact: bool = Field(
        False,
        description="Fill every pipeline call to `max_batch` items, so that a seed gives the same bits whatever its "
        "neighbours; costs their time, and needs a `max_batch` that fits into memory.",
    )
    compile: Compile = Field(
        Compile.OFF,
        description="`regional`: compile the blocks that a model repeats before its first job. That takes minutes once "
        "and is kept in `cache`; it needs a C++ compiler, and Triton on CUDA.",
    )
    attention: Attention = Field(
        Attention.DEFAULT,
        description="How attention is computed, by diffusers' names; `flash`, `_flash_3`, `sage` and `xformers` need "
        "their packages, and `sage` changes what a seed shows.",
    )
    channels_last: bool | None = Field(
        None, description="Lay pictures out with their channels last in SDXL's convolutions. Default: on CUDA."
    )
    prompt_cache: int = Field(
        64, ge=0, description="Encoded prompts of each model that are kept in the machine's memory, 8 MB at most each."
    )
    parallel_loading: bool = Field(True, description="Read a model's weights with several threads.")
    host_memory: float | None = Field(
        None,
        ge=0.0,
        description="GiB of the machine's memory that models may wait in after they had to leave the card; 0: none. "
        "Default: half of it, divided by the machine's cards; none on a CPU.",
    )
    step_cache: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Reuse a video model's work in a step whose first block changed by less than this share since "
        "the step before (0.05 to 0.2, say): quicker, and another video for a seed. 0: never.",
    )
    threads: int | None = Field(None, ge=1, description="Threads of PyTorch on the CPU. Default: PyTorch's choice.")

    lease: float = Field(60.0, ge=2.0, le=3600.0, description="How long a job stays ours without a sign of life.")
    heartbeat: float = Field(15.0, gt=0.0, description="Time between two signs of life; at most a third of the lease.")
    progress_interval: float = Field(2.0, ge=0.1, description="Shortest time between two writes of progress.")
    rescue_interval: float = Field(15.0, gt=0.0, description="Time between two searches for expired leases.")
    settling: float = Field(2.0, ge=0.0, description="Wait for the call of a document that has no `submitted_at`.")
    prefetch: float = Field(3.0, ge=0.0, description="Claim the next job so long before the running one will end.")
    step_limit: float = Field(
        120.0,
        gt=0.0,
        description="Longest step of a small picture, and with two minutes more its longest encoding or upload; a "
        "larger job may take longer in proportion.",
    )
    provenance: bool = Field(True, description="Write model, seed and parameters into every file and document.")
    provenance_prompts: bool = Field(False, description="With `provenance`: write the prompts into the files too.")
    min_free_disk: float = Field(1.0, ge=0.0, description="GiB that must be free for temporary files.")
    finishing: int = Field(4, ge=1, description="Jobs that are encoded and uploaded at the same time, at most.")
    patience: float = Field(600.0, ge=0.0, description="How long finished media wait for a bucket that is away.")
    grace: float = Field(25.0, ge=0.0, description="After SIGTERM: how long a running job may take to end.")
    exit_when_idle: float | None = Field(
        None, gt=0.0, description="End after so long without work, for a paid machine to stop itself. Default: never."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts until a job fails for good.")
    max_queue_age: float = Field(86_400.0, gt=0.0, description="Jobs that waited longer fail.")
    max_prompt: int = Field(10_000, ge=1, description="Characters in a prompt, at most.")

    quota: int | None = Field(
        None, ge=1, description="Queued and processing jobs that a user may have at once. Default: any number."
    )

    shim_host: str = Field("127.0.0.1", description="Address of the shim; any but loopback needs a key.")
    shim_port: int = Field(8000, ge=0, le=65_535, description="Port of the shim; 0: a free one.")
    shim_keys: Secrets = Field(
        default=[], description="Bearer keys that may call the shim, comma-separated; several while you rotate them."
    )
    shim_endpoints: Names = Field(
        default=["easeld"], min_length=1, description="Endpoint ids that the shim answers to."
    )
    shim_rate: float | None = Field(None, gt=0.0, description="Calls a minute with one key, at most.")

    http_host: str = Field("127.0.0.1", description="Address of a worker's `/healthz`, `/readyz` and `/metrics`.")
    http_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port of the same; 0: a free one. Default: none, because several workers on one machine cannot "
        "share a port.",
    )

    page: bool = Field(
        True, description="Serve the operator page at `/`, from `easeld up` and where a worker has an HTTP port."
    )
    previews: bool = Field(True, description="Show on the page what a running job is making, twice a second at most.")
    upload_previews: bool = Field(
        False,
        description="Keep a small picture of what a running job is making in the bucket, its address in the document's "
        "`progress.preview_url`; it goes when the job ends.",
    )
    page_token: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        None,
        description="Token of the page, 16 characters at least. Without it the page is on loopback addresses only.",
    )

    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severity that is logged.")
    log_json: bool | None = Field(None, description="Log JSON. Default: unless standard error is a terminal.")
    log_prompts: bool = Field(False, description="Let prompts into the log.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file."""
        path = os.environ.get(CONFIG)
        toml = (TomlConfigSettingsSource(settings_cls, Path(path)),) if path else ()
        return (init_settings, env_settings, *toml)

    @property
    def blobs_kind(self) -> BlobsKind:
        """The blob store, the default decided."""
        return self.blobs or (BlobsKind.FOLDER if self.store is StoreKind.SQLITE else BlobsKind.GCS)

    @property
    def speed(self) -> Speed:
        """How models are made fast on their device."""
        return Speed(
            compile=self.compile,
            attention=self.attention,
            channels_last=self.channels_last,
            prompts_kept=self.prompt_cache,
            parallel_loading=self.parallel_loading,
            step_cache=self.step_cache,
        )


def load(**overrides: object) -> Settings:
    """Read the settings.

    Raises:
        WrongSettings: one line saying which is wrong, and how.
    """
    path = os.environ.get(CONFIG)
    if path and not Path(path).is_file():
        raise WrongSettings(f"{CONFIG}: there is no file {path}")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # pydantic checks what comes in
    except ValidationError as exc:
        raise WrongSettings("; ".join(_line(error["loc"], error["msg"]) for error in exc.errors())) from exc
    except (SettingsError, ValueError) as exc:
        raise WrongSettings(str(exc)) from exc
    if settings.heartbeat > settings.lease / 3:
        raise WrongSettings(f"EASELD_HEARTBEAT: {settings.heartbeat:g} is more than a third of the lease")
    if settings.blobs_kind is BlobsKind.GCS and not settings.bucket:
        raise WrongSettings("EASELD_BUCKET: name the Cloud Storage bucket, or set EASELD_BLOBS=folder")
    known = {name.upper() for name in Settings.model_fields} | {"CONFIG"}
    for name in os.environ:
        if name.startswith("EASELD_") and name.removeprefix("EASELD_") not in known | FOR_TESTS:
            raise WrongSettings(f"{name}: there is no such setting")
    return settings


FOR_TESTS = {"FIRESTORE_EMULATOR_JAR", "NOT_TESTED_FILE", "FUZZ"}


def _line(place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(part) for part in place)
    return f"EASELD_{name.upper()}: {message}"

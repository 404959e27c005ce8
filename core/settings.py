"""Settings of this installation: where things lie, and how large input may be.

Read from environment variables with the prefix ``TUNEWISE_`` each time they are asked for,
so that tests and workers see their own. Knows nothing of what is stored there.
"""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """All settings, each also an environment variable, e.g. ``TUNEWISE_WORKSPACE``."""

    model_config = SettingsConfigDict(env_prefix="TUNEWISE_", extra="ignore")

    workspace: Path = Field(default=Path("workspace"), description="folder of the database and all artefacts")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty: SQLite inside the workspace")
    model_cache: Path = Field(
        default_factory=lambda: user_cache_path("tunewise") / "models",
        description="converted and downloaded models, outside the workspace",
    )
    launch_backend: str = Field(default="local", description="how worker processes are started")

    devices: str = Field(default="", description="devices that jobs may use (cpu, or cuda:0,cuda:1); empty: all there are")

    gpu_memory_gb: float | None = Field(default=None, gt=0, description="GPU memory a training may use; none: all that is free")

    engines: int = Field(default=1, ge=1, description="models that chat may hold in memory at once")
    engine_memory_gb: float | None = Field(default=None, gt=0, description="what their weights may take; none: what fits")
    engine_idle_seconds: float = Field(default=900.0, ge=0, description="a model nobody asks goes after this; 0: never")

    heartbeat_seconds: float = Field(default=2.0, gt=0, description="how often a worker says that it lives")
    lost_after_seconds: float = Field(default=30.0, gt=0, description="a silent worker counts as dead after this")

    max_file_mb: int = Field(default=2048, gt=0, description="largest file that is imported, as it lies on disk")
    max_expanded_mb: int = Field(default=8192, gt=0, description="largest size after decompression")
    max_row_characters: int = Field(default=1_000_000, gt=0, description="longest row; a longer one is quarantined")
    max_nesting: int = Field(default=64, gt=0, description="deepest nesting of JSON")

    hub_endpoint: str = Field(default="https://huggingface.co", description="Hugging Face hub or a mirror of it")
    modelscope_endpoint: str = Field(default="https://modelscope.cn", description="ModelScope or a mirror of it")

    price_in: float | None = Field(default=None, ge=0, description="price of a million prompt tokens, in your currency")
    price_out: float | None = Field(default=None, ge=0, description="price of a million answer tokens")
    price_hour: float | None = Field(default=None, ge=0, description="price of an hour of one training device")

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.workspace.absolute() / 'tunewise.db'}"


def get_settings() -> Settings:
    """The settings as the environment has them now."""
    return Settings()

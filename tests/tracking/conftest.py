"""One MLflow database for all tests of a worker: making it takes seconds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from mario_dreamer.tracking.mlflow.store import open_store


@pytest.fixture(scope="session")
def first_clients(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[MlflowClient]]:
    """The database's address, and three clients that were opened at once when it was not there."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    with ThreadPoolExecutor(3) as pool:
        return uri, list(pool.map(open_store, [uri] * 3))


@pytest.fixture(scope="session")
def uri(first_clients: tuple[str, list[MlflowClient]]) -> str:
    """Address of the database."""
    return first_clients[0]

"""What every test asks: a client of the server that `run` named."""

import json
import os
from types import SimpleNamespace

import openai
import pytest


@pytest.fixture(scope="session")
def target():
    told = {"is_test": False, "poor_key": None, "has_batches": True} | json.loads(os.environ["OPENAI_TARGET"])
    return SimpleNamespace(**told)


@pytest.fixture(scope="session")
def client(target):
    return openai.OpenAI(base_url=target.base_url, api_key=target.api_key, max_retries=0, timeout=120)


@pytest.fixture
def echoes(target):
    """For what only models that say back what they were told can show."""
    if not target.is_test:
        pytest.skip("needs the test's models")
    return target


@pytest.fixture
def batches(target):
    """For what a server without a runner of batches refuses."""
    if not target.has_batches:
        pytest.skip("this server runs no batches")


@pytest.fixture
def say():
    return lambda text: [{"role": "user", "content": text}]

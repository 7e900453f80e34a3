# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can measure: sizes, names, headers, doors, and role arguments.

The numbers are budgets, not goals: a file or function over the line is split by the question that it answers.
What ruff, mypy or import-linter can say is said there, not here.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DAEMON = "reconciler/src/stargate_reconciler"

FILE_LINES = 300
MODULE_LINES = 150
FUNCTION_LINES = 40
ROOT_FUNCTION_LINES = 60
TEST_LINES = 25
ARGUMENTS = 5
POSITIONAL = 4
NESTING = 3
PLAYBOOK_LINES = 60
TASK_FILE_LINES = 80
TASKS = 8

# Functions that may have ROOT_FUNCTION_LINES: they put the others together.
ROOT_FUNCTIONS = {"main", "compose"}
# Signatures that a base class of Ansible dictates.
DICTATED = {("plugins/inventory", "parse"), ("plugins/action", "run")}
DOCUMENTATION = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
DOORS = {
    "kubernetes": {
        f"{DAEMON}/kube.py",
        f"{DAEMON}/leader.py",
        f"{DAEMON}/nodes.py",
        "plugins/inventory/servers.py",
        "plugins/module_utils/_kube.py",
        "plugins/module_utils/_kubeconfig.py",
    },
    "ansible_runner": {f"{DAEMON}/runner.py"},
    "prometheus_client": {f"{DAEMON}/metrics.py", f"{DAEMON}/mock_dc/metrics.py"},
}
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py"}
GPL_HEADER = [
    "# Copyright (c) 2026 The Stargate Authors",
    "# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
]
APACHE_HEADER = ["# SPDX-License-Identifier: Apache-2.0"]
COMMENTED = {".cfg", ".ini", ".j2", ".py", ".service", ".sh", ".socket", ".toml", ".yaml", ".yml"}
GENERATED = {"changelogs/changelog.yaml"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the root, its tree, and the numbers of its lines that hold code."""

    path: str
    tree: ast.Module
    code: frozenset[int]

    def size(self, node: ast.Module | Function) -> int:
        """Return how many code lines a node has."""
        if isinstance(node, ast.Module):
            return len(self.code)
        return len(self.code.intersection(range(node.lineno, (node.end_lineno or node.lineno) + 1)))

    def functions(self) -> Iterator[Function]:
        """Yield every function and method, inner ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    @property
    def is_test(self) -> bool:
        """Whether this file belongs to the tests."""
        return "tests" in Path(self.path).parts


@cache
def files() -> tuple[str, ...]:
    """Return the path of every file that is committed or could be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return tuple(sorted(path for path in found if path and (ROOT / path).is_file()))


@cache
def text(path: str) -> str:
    """Return what is in a file, "" when it is not text."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def sources() -> tuple[Source, ...]:
    """Return every Python file, parsed."""
    paths = [path for path in files() if path.endswith(".py")]
    return tuple(Source(path, tree := ast.parse(text(path)), code_lines(text(path), tree)) for path in paths)


def code_lines(content: str, tree: ast.Module) -> frozenset[int]:
    """Return the line numbers with code: no blanks, comments, docstrings, documentation blocks."""
    passive = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type not in passive:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in prose(tree):
        lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(lines)


def prose(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that are documentation."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node, clean=False) is not None:
            yield node.body[0]
        if isinstance(node, ast.Assign) and DOCUMENTATION.intersection(names(node)):
            yield node


def names(statement: ast.Assign) -> set[str]:
    """Return the names that an assignment binds."""
    return {target.id for target in statement.targets if isinstance(target, ast.Name)}


def depth(node: ast.AST) -> int:
    """Return how deep if, for, while, with, try and match are nested below a node; elif counts as its if."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        opens = isinstance(child, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match)
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, depth(child) + (opens and not is_elif))
    return deepest


def is_dictated(source: Source, function: Function) -> bool:
    """Whether somebody else decides on the arguments: pytest, the language, or a base class of Ansible."""
    dunder = function.name.startswith("__") and function.name not in ("__init__", "__call__")
    fixture = source.is_test and (
        function.name.startswith("test_") or any("fixture" in ast.unparse(item) for item in function.decorator_list)
    )
    return dunder or fixture or any((str(Path(source.path).parent), function.name) == known for known in DICTATED)


def line_budget(source: Source, function: Function) -> int:
    """Return how many code lines a function may have."""
    if source.is_test and function.name.startswith("test_"):
        return TEST_LINES
    return ROOT_FUNCTION_LINES if function.name in ROOT_FUNCTIONS else FUNCTION_LINES


def roles() -> list[Path]:
    """Return the directory of every role."""
    return sorted({ROOT / Path(path).parts[0] / Path(path).parts[1] for path in files() if path.startswith("roles/")})


def options(role: Path) -> tuple[set[str], set[str]]:
    """Return all options of a role's argument specs, and those which every door that has them requires."""
    spec = load(role / "meta/argument_specs.yml").get("argument_specs", {})
    known = [(name, bool(option.get("required"))) for door in spec.values() for name, option in door["options"].items()]
    return {name for name, _ in known}, {name for name, _ in known} - {name for name, required in known if not required}


def load(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping, {} when there is no such file."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def refuse(found: list[str]) -> None:
    """Fail with every offence on a line of its own."""
    if found:
        pytest.fail("\n".join([f"{len(found)} against the house rules (CONTRIBUTING.md):", *found]), pytrace=False)


SAMPLE = '''"""Purpose."""
DOCUMENTATION = """
long
"""

def act(first, second):
    """Say."""
    # why
    text = """a
b"""
    if first:
        with second:
            pass
    elif text:
        for _ in text:
            while second:
                pass
'''


def test_measures_are_right() -> None:
    """Code lines leave out prose and comments but count every line of a text; elif is as deep as its if."""
    tree = ast.parse(SAMPLE)
    source = Source("sample.py", tree, code_lines(SAMPLE, tree))
    (function,) = source.functions()
    assert (source.size(tree), source.size(function), depth(function)) == (10, 10, 3)


def test_files_are_small() -> None:
    """A Python file answers one question, in 300 code lines at most; an Ansible module in 150."""
    budgets = {
        source: MODULE_LINES if source.path.startswith("plugins/modules/") else FILE_LINES for source in sources()
    }
    sizes = [(source.path, source.size(source.tree), budget) for source, budget in budgets.items()]
    refuse([f"{path}: {size} code lines of {budget}" for path, size, budget in sizes if size > budget])


def test_functions_are_small() -> None:
    """A function has at most 40 code lines, one that puts others together 60, a test 25."""
    sizes = [(s, f, s.size(f), line_budget(s, f)) for s in sources() for f in s.functions()]
    long = [f"{s.path}:{f.lineno}: {f.name}: {size} code lines of {most}" for s, f, size, most in sizes if size > most]
    refuse(long)


def test_functions_have_few_arguments() -> None:
    """At most five arguments, by keyword only after the second; more means that a dataclass is missing."""
    found = []
    for source, function in ((s, f) for s in sources() for f in s.functions() if not is_dictated(s, f)):
        own = [arg for arg in function.args.posonlyargs + function.args.args if arg.arg not in ("self", "cls")]
        if len(own) > POSITIONAL or len(own) + len(function.args.kwonlyargs) > ARGUMENTS:
            count = f"{len(own)} positional and {len(function.args.kwonlyargs)} keyword-only"
            found.append(f"{source.path}:{function.lineno}: {function.name}: {count} arguments")
    refuse(found)


def test_functions_are_flat() -> None:
    """Blocks are nested three deep at most."""
    deep = [(s.path, f, depth(f)) for s in sources() for f in s.functions() if depth(f) > NESTING]
    refuse([f"{path}:{f.lineno}: {f.name}: nested {level} deep" for path, f, level in deep])


def test_files_open_with_their_purpose() -> None:
    """Each package and file says in two to five lines what it is for, or has an Ansible DOCUMENTATION block."""
    found = []
    for source in sources():
        if any(isinstance(node, ast.Assign) and "DOCUMENTATION" in names(node) for node in ast.walk(source.tree)):
            continue
        lines = [line for line in (ast.get_docstring(source.tree) or "").splitlines() if line.strip()]
        if not 2 <= len(lines) <= 5:
            found.append(f"{source.path}: its docstring has {len(lines)} lines")
    refuse(found)


def test_tests_say_what_they_show() -> None:
    """Each test has a docstring of one sentence."""
    tests = [(s, f) for s in sources() if s.is_test for f in s.functions() if f.name.startswith("test_")]
    silent = [(s, f) for s, f in tests if not re.fullmatch(r"[^\n]+(\n[^\n]+)?[.?!]", ast.get_docstring(f) or "")]
    refuse([f"{s.path}:{f.lineno}: {f.name}" for s, f in silent])


def test_no_room_for_leftovers() -> None:
    """No file is called utils, helpers or common: its question has no name yet."""
    refuse([path for path in files() if Path(path).name.lstrip("_") in FORBIDDEN_NAMES])


def test_licence_headers() -> None:
    """Every file that can hold a comment begins with its licence: GPL in plugins/, Apache elsewhere."""
    found = []
    for path in files():
        scripts = path.startswith(("scripts/", ".ci/")) or Path(path).name in ("Makefile", ".importlinter", ".yamllint")
        if path in GENERATED or not (scripts or Path(path).suffix in COMMENTED or path == ".ansible-lint"):
            continue
        wanted = GPL_HEADER if path.startswith("plugins/") else APACHE_HEADER
        lines = [line for line in text(path).splitlines()[:5] if not line.startswith(("#!", "---"))]
        if path.endswith(".j2"):
            lines = [line.replace("{#", "#", 1).removesuffix("#}").rstrip() for line in lines]
        if lines[: len(wanted)] != wanted:
            found.append(path)
    refuse(found)


def test_one_blind_except() -> None:
    """In the daemon, Exception is caught once, at the worker loop; handlers that end in raise do not count."""
    found = []
    for source in (s for s in sources() if s.path.startswith(DAEMON)):
        for handler in (node for node in ast.walk(source.tree) if isinstance(node, ast.ExceptHandler)):
            caught = re.findall(r"\w+", ast.unparse(handler.type)) if handler.type else ["Exception"]
            last = handler.body[-1]
            reraised = isinstance(last, ast.Raise) and last.exc is None
            if not reraised and {"Exception", "BaseException"}.intersection(caught):
                found.append(f"{source.path}:{handler.lineno}")
    refuse(found if len(found) > 1 else [])


def test_outside_worlds_have_doors() -> None:
    """The Kubernetes client, ansible-runner and the Prometheus client are imported where the house says."""
    found = []
    for source in (s for s in sources() if not s.is_test):
        for node in ast.walk(source.tree):
            modules = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
            )
            is_import = isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
            worlds = {name.partition(".")[0] for name in modules} if is_import else set()
            found += [f"{source.path}: {w}" for w in worlds & DOORS.keys() if source.path not in DOORS[w]]
    refuse(found)


def test_mutings_have_rule_and_reason() -> None:
    """A comment that silences a linter names the rule and says why."""
    muting = re.compile(r"#\s*(noqa|type:\s*ignore|pylint:\s*disable|shellcheck\s+disable|pragma:\s*no cover)(.*)")
    reasoned = re.compile(r"(:\s*|\[|=)?[\w, -]+\]?\s+(#|-|because)?\s*\w+.*")
    found = []
    for path in (p for p in files() if Path(p).suffix in COMMENTED or p.startswith("scripts/")):
        for number, line in enumerate(text(path).splitlines(), 1):
            match = muting.search(line)
            if match and path != "tests/unit/test_house_rules.py" and not reasoned.fullmatch(match[2].strip()):
                found.append(f"{path}:{number}: {line.strip()}")
    refuse(found)


def test_todos_have_an_issue() -> None:
    """Work left for later carries the number of its issue or does not stand in the code."""
    pattern = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b(?!\(#\d+\))")
    lines = [(path, n, line) for path in files() for n, line in enumerate(text(path).splitlines(), 1)]
    known = ("LICENSE", "COPYING")
    found = [f"{path}:{n}: {line.strip()}" for path, n, line in lines if pattern.search(line)]
    refuse([line for line in found if not line.startswith(known)])


def test_roles_specify_their_arguments() -> None:
    """A role's defaults are exactly its specified options that somebody may leave out, all with its prefix."""
    found = []
    for role in roles():
        known, required = options(role)
        defaults = set(load(role / "defaults/main.yml"))
        found += [f"{role.name}: {name} has a default and no specification" for name in sorted(defaults - known)]
        found += [f"{role.name}: {name} has no default" for name in sorted(known - required - defaults)]
        found += [
            f"{role.name}: {name} has no prefix" for name in sorted(known) if not name.startswith(f"{role.name}_")
        ]
    refuse(found)


def test_roles_specify_their_doors() -> None:
    """Every entry point of a role's argument specs is a task file, and main.yml is specified."""
    found = []
    for role in roles():
        doors = set(load(role / "meta/argument_specs.yml").get("argument_specs", {}))
        tasks = {path.stem for path in (role / "tasks").glob("*.yml")}
        found += [f"{role.name}: {door} has no task file" for door in sorted(doors - tasks)]
        found += [f"{role.name}: {door} is not specified" for door in sorted({"main"} & tasks - doors)]
        found += [f"{role.name}: has no argument specs"] if not doors else []
    refuse(found)


def test_playbooks_and_task_files_are_small() -> None:
    """A playbook has at most 60 lines, a task file 80 lines and 8 tasks."""
    found = []
    for path in (p for p in files() if re.match(r"(playbooks|roles/[^/]+/tasks)/.*\.ya?ml$", p)):
        lines = [line for line in text(path).splitlines() if line.strip() and not line.strip().startswith("#")]
        budget = TASK_FILE_LINES if path.startswith("roles/") else PLAYBOOK_LINES
        tasks = len(yaml.safe_load(text(path)) or []) if path.startswith("roles/") else 0
        if len(lines) > budget or tasks > TASKS:
            found.append(f"{path}: {len(lines)} lines, {tasks} tasks")
    refuse(found)


def test_operations_have_legal_names() -> None:
    """Every file in playbooks/operations is a playbook that an Operation can name."""
    here = [Path(path).name for path in files() if str(Path(path).parent) == "playbooks/operations"]
    refuse([name for name in here if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}\.yml", name)])

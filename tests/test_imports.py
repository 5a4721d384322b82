"""Imports run one way: between groups of modules, and between the modules of a group."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# A group imports itself and those before it, and nothing after it.
ORDER = (
    'cnns.axes',
    'cnns.fast',
    'cnns',
    'configs',
    'experiments.measures',
    'experiments.errors',
    'experiments.bits',
    'experiments.options',
    'experiments.schema',
    'experiments.files',
    'experiments.progress',
    'experiments.environment',
    'experiments.machine',
    'experiments.tables',
    'experiments.style',
    'experiments.workdir',
    'experiments.plan',
    'experiments.data',
    'experiments.preprocess',
    'experiments.train',
    'experiments.models',
    'experiments.report',
    'experiments.evaluation',
    'experiments.runner',
    'experiments.status',
    'experiments.claims',
    'experiments.benchmark',
    'experiments.figures',
    'experiments.sheets',
    'experiments.evaluate',
    'experiments.predict',
    'experiments.export',
    'experiments.api',
    'experiments.run',
    'experiments.launch',
)


def modules() -> dict[str, pathlib.Path]:
    """{'experiments.data.feed': its file} of all modules of the project."""
    found = {}
    for folder in ('cnns', 'configs', 'experiments'):
        for path in sorted((ROOT / folder).rglob('*.py')):
            name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
            found[name.removesuffix('.__init__')] = path
    return found


def arrows(known: dict[str, pathlib.Path]) -> dict[str, set[str]]:
    """{module: modules of ours that it imports}, inside functions too."""
    found = {}
    for name, path in known.items():
        package = name if path.name == '__init__.py' else name.rpartition('.')[0]
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ''
                if node.level:
                    base = '.'.join([package, base] if base else [package])
                # a name of a package is a module of it or something that its __init__ holds
                targets = [
                    f'{base}.{alias.name}' if f'{base}.{alias.name}' in known else base
                    for alias in node.names
                ]
            else:
                continue
            found[name] |= {target for target in targets if target in known and target != name}
    return found


def group(name: str) -> str:
    """The group that a module belongs to: the longest entry of ORDER that its name begins with."""
    matches = [one for one in ORDER if name == one or name.startswith(f'{one}.')]
    return max(matches, key=len) if matches else ''


def cycle(found: dict[str, set[str]]) -> list[str]:
    """The modules of a cycle of imports, [] where there is none."""
    state: dict[str, int] = {}

    def visit(name, path):
        state[name] = 1
        for target in sorted(found[name]):
            if state.get(target) == 1:
                return [*path[path.index(target) :], target]
            if target not in state and (met := visit(target, [*path, target])):
                return met
        state[name] = 2
        return []

    for name in found:
        if name not in state and (met := visit(name, [name])):
            return met
    return []


def facades(found, known):
    """Without the arrows of a package's __init__ to its own modules: others import through it."""
    return {
        name: {target for target in targets if not target.startswith(f'{name}.')}
        if known[name].name == '__init__.py'
        else targets
        for name, targets in found.items()
    }


def test_every_module_belongs_to_a_group():
    assert [name for name in modules() if name != 'experiments' and not group(name)] == []


def test_no_group_imports_a_later_one():
    against = [
        f'{name} -> {target}'
        for name, targets in arrows(modules()).items()
        for target in targets
        if name != 'experiments'
        and ORDER.index(group(target)) > ORDER.index(group(name))
        and not target.startswith(f'{name}.')
    ]
    assert against == []


def test_no_cycle_of_imports():
    known = modules()
    assert cycle(facades(arrows(known), known)) == []


def test_cnns_imports_nothing_of_ours_and_configs_the_axes_alone():
    for name, targets in arrows(modules()).items():
        folder = name.partition('.')[0]
        if folder in ('cnns', 'configs'):
            others = {target for target in targets if target.partition('.')[0] != folder}
            assert others <= ({'cnns.axes'} if name == 'configs.base' else set()), name


@pytest.mark.parametrize('made', [{'a': {'b'}, 'b': {'c'}, 'c': {'a'}}, {'a': {'b'}, 'b': {'a'}}])
def test_a_cycle_is_found(made):
    assert cycle(made)
    assert cycle({'a': {'b'}, 'b': set()}) == []

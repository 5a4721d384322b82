"""The protocol, the runner and the commands: `python -m experiments.run` and those beside it."""

import importlib.machinery
import pathlib
import sys

_HERE = pathlib.Path(__file__).parent


def commands() -> list[str]:
    """The names of the commands: 'run' for `python -m experiments.run`."""
    packages = [path.parent.name for path in _HERE.glob('*/__main__.py')]
    return sorted(packages + [path.stem for path in _HERE.glob('*.py') if _runs(path)])


def _runs(path: pathlib.Path) -> bool:
    """Whether a file does something when it is run."""
    return path.is_file() and "\nif __name__ == '__main__':" in path.read_text()


def _check_command() -> None:
    """Ends `python -m experiments.NAME` where that is no command: it would do nothing."""
    words = sys.orig_argv
    if sys.argv[:1] != ['-m'] or '-m' not in words[:-1]:  # -m: the module is being looked for
        return
    module = words[words.index('-m') + 1]
    package, *names = module.split('.')
    path = _HERE.joinpath(*names)
    if package != __name__ or _runs(path.with_suffix('.py')) or (path / '__main__.py').is_file():
        return
    listed = ', '.join(f'experiments.{command}' for command in commands())
    print(f'error: {module} is no command. The commands are: {listed}.', file=sys.stderr)
    sys.exit(2)


_check_command()

_ROOT = _HERE.parent


class _Siblings:
    """Finds the packages beside this one first.

    A folder `configs` or `cnns` where Python was started, such as a user's own, would hide them.
    """

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ('cnns', 'configs'):
            return importlib.machinery.PathFinder.find_spec(name, [str(_ROOT)])
        return None


sys.meta_path.insert(0, _Siblings)
for _name in ('cnns', 'configs'):
    _found = getattr(sys.modules.get(_name), '__file__', None) or f'{_ROOT}/{_name}/__init__.py'
    if pathlib.Path(_found).parent.resolve() != (_ROOT / _name).resolve():
        raise ImportError(
            f'{_found} is imported already and hides the package {_name} of {_ROOT}: '
            'import experiments first, or rename that folder.'
        )

"""From a config to a figure: run, sweep, data, train, evaluate, results, figures, report."""

import importlib.machinery
import pathlib
import sys

_ROOT = pathlib.Path(__file__).parent.parent


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

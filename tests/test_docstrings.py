"""The defaults that docstrings state are those of the signatures."""

import ast
import importlib
import inspect
import pkgutil
import re

import pytest

import frlr_mm


def public_callables():
    """Return (qualified name, docstring, signature) of each public thing of the package."""
    found = {}
    for info in pkgutil.walk_packages(frlr_mm.__path__, 'frlr_mm.'):
        if info.name.rpartition('.')[2].startswith('_'):
            continue  # not meant for users
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            if name.startswith('_') or getattr(thing, '__module__', None) != info.name:
                continue
            if inspect.isclass(thing) and issubclass(thing, Exception):
                continue  # takes a message alone, and has no signature
            if inspect.isclass(thing):
                found[f'{info.name}.{name}'] = (thing.__doc__, inspect.signature(thing))
                for method_name, method in vars(thing).items():
                    if inspect.isfunction(method) and not method_name.startswith('_'):
                        found[f'{info.name}.{name}.{method_name}'] = (
                            method.__doc__,
                            inspect.signature(method),
                        )
            elif inspect.isfunction(inspect.unwrap(thing)):
                found[f'{info.name}.{name}'] = (thing.__doc__, inspect.signature(thing))
    return found


def documented_arguments(docstring):
    """Return the text of each entry of a Google-style `Args:` section."""
    section = re.search(r'^Args:\n((?:[ ]+.*\n|\n)*)', inspect.cleandoc(docstring) + '\n', re.M)
    if not section:
        return {}
    entries = re.split(r'^ {4}(\*{0,2}\w+)(?: \([^\n]*?\))?:', section[1], flags=re.M)[1:]
    return {name: ' '.join(text.split()) for name, text in zip(entries[::2], entries[1::2])}


CALLABLES = public_callables()


def test_finds_what_is_public():
    assert {
        'frlr_mm.functional.hs_lr.hs_lr_loss',
        'frlr_mm.functional.ss_lr.ss_lr_loss',
        'frlr_mm.models.losses.HSLRLoss',
        'frlr_mm.models.losses.SSLRLoss',
        'frlr_mm.models.losses.FocusRectifiedLoss.forward',
        'frlr_mm.engine.hooks.focus_annealing_hook.FocusAnnealingHook',
        'frlr_mm.datasets.glyphs.dataset.GlyphDataset',
    } <= CALLABLES.keys()
    arguments = documented_arguments(CALLABLES['frlr_mm.functional.hs_lr.hs_lr_loss'][0])
    assert list(arguments)[:4] == ['cls_score', 'label', 'alpha', 'ratio']
    assert arguments['ratio'].endswith('Defaults to 0.1.')


@pytest.mark.parametrize('name', CALLABLES)
def test_docstring_agrees_with_signature(name):
    docstring, signature = CALLABLES[name]
    assert docstring, 'no docstring'
    arguments = documented_arguments(docstring)
    parameters = {
        {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}.get(
            parameter.kind, ''
        )
        + key: parameter
        for key, parameter in signature.parameters.items()
        if key != 'self'
    }
    if arguments:
        assert list(arguments) == list(parameters)
    for key, text in arguments.items():
        default = parameters[key].default
        stated = re.findall(r'Defaults to (.+)\.$', text)
        if default is inspect.Parameter.empty:
            assert 'Defaults to' not in text, key
        else:
            assert stated, f'{key} does not end with its default'
            assert ast.literal_eval(stated[0].strip('`')) == default, key

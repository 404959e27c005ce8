"""What runs within the sandboxes of ``core.evaluation.sandbox``: one driver for a program, one for the test that judges it.

Texts for ``python -c``, since nothing of this package is to be seen in there. A line of JSON on standard input says what to do:
``limits``, ``name`` of the function, and ``program``; or ``test``, ``prompt``, ``word`` and two descriptors. They know nothing of
tasks. No process that the program is in holds the word or the test: it answers calls, and its answers are unpickled with plain
classes only, so that no object of its own (one that is equal to everything, say) gets into the test.
"""

from __future__ import annotations

_BEGIN = """
import builtins, json, os, pickle, resource, sys
told = os.fdopen(os.dup(0), "rb")
asked = json.loads(told.readline())
for name, most in asked["limits"].items():
    resource.setrlimit(getattr(resource, name), (most, most))
tell = os.fdopen(os.dup(1), "wb")
null = os.open(os.devnull, os.O_RDWR)
for place in (0, 1, 2):
    os.dup2(null, place)
def said(error):
    return (type(error).__name__ + ": " + str(error))[:300]
"""
PROGRAM = (
    _BEGIN
    + """
def reply(*what):
    tell.write(pickle.dumps(what, 4))
    tell.flush()
try:
    names = {"__name__": "__main__"}
    exec(compile(asked["program"], "program.py", "exec"), names)
    call = eval(asked["name"], names)
    reply("ready")
    while True:
        given, named = pickle.load(told)
        try:
            got = call(*given, **named)
            kind = "iterator" if hasattr(type(got), "__next__") else "value"
            got = list(got) if kind == "iterator" else got
        except Exception as error:
            kind, got = "raised", (type(error).__name__, str(error)[:300])
        reply(kind, got, given)
except BaseException as error:
    reply("failed", said(error))
os._exit(0)
"""
)
"""Runs the program, then answers calls of its function. All that it can say is what the function gave back."""
JUDGE = (
    _BEGIN
    + """
PLAIN = {("builtins", name) for name in ("bytearray", "complex", "dict", "float", "frozenset", "int", "list", "range", "set")}
PLAIN |= {("collections", name) for name in ("Counter", "OrderedDict", "defaultdict", "deque")}
PLAIN |= {("decimal", "Decimal"), ("fractions", "Fraction")}
PLAIN |= {("datetime", name) for name in ("date", "datetime", "time", "timedelta")}
class Plain(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in PLAIN:
            raise ValueError("what it gave back is no plain value but " + module + "." + name)
        return super().find_class(module, name)
calls, replies = os.fdopen(asked["calls"], "wb"), os.fdopen(asked["replies"], "rb")
def end(text):
    tell.write(text.encode("utf-8", "replace"))
    tell.flush()
    os._exit(0)
def hear():
    try:
        kind, *rest = Plain(replies).load()
        if (kind, len(rest)) not in (("ready", 0), ("failed", 1), ("value", 2), ("iterator", 2), ("raised", 2)):
            end("ended early")
    except EOFError:
        end("ended early")
    except BaseException as error:
        end(said(error))
    if kind == "failed":
        end(str(rest[0])[:300])
    return kind, *rest
def candidate(*given, **named):
    call = pickle.dumps((given, named), 4)
    try:
        calls.write(call)
        calls.flush()
    except BrokenPipeError:
        end("ended early")
    kind, *rest = hear()
    if len(rest) != 2:
        end("ended early")
    got, after = rest
    for mine, changed in zip(given, after):
        if type(mine) is type(changed) is list:
            mine[:] = changed
        elif type(mine) is type(changed) in (dict, set):
            mine.clear()
            mine.update(changed)
    if kind == "raised":
        known = getattr(builtins, str(got[0]), None)
        plain = isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, UnicodeError)
        raise known(got[1]) if plain else Exception(": ".join(map(str, got)))
    return iter(got) if kind == "iterator" else got
try:
    hear()
    names = {"__name__": "__main__"}
    for tail in ("", "    pass", "\\n    pass"):
        try:
            exec(compile(asked["prompt"] + tail, "prompt.py", "exec"), names)
            break
        except SyntaxError:
            pass
    names[asked["name"]] = candidate
    exec(compile(asked["test"], "test.py", "exec"), names)
except BaseException as error:
    end(said(error))
end(asked["word"])
"""
)
"""Runs the test, which calls the program's function through a pipe; what comes back can only be a plain value."""

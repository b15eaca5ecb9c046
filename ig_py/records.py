"""Data classes that cost nothing to define.

The standard library's write every method as text and compile it: half a
millisecond a class, and they bring in ``inspect``; with the sixty classes that
a run needs, that was a fifth of the time until it traced. Here methods are
closures. To a type checker, and to ``dataclasses.replace`` and its siblings,
these *are* data classes; what this project does not use (``order``, ``kw_only``,
inherited fields, …) is not there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace

__all__ = ["dataclass", "field", "replace"]

if not TYPE_CHECKING:
    _MISSING = object()
    _put = object.__setattr__

    class _Field:
        __slots__ = ("default", "default_factory", "repr")

        def __init__(self, default=_MISSING, default_factory=None, repr=True):
            self.default = default
            self.default_factory = default_factory
            self.repr = repr

    def field(*, default=_MISSING, default_factory=None, repr=True):
        """As :func:`dataclasses.field`."""
        return _Field(default, default_factory, repr)

    def replace(instance, /, **changes):
        """As :func:`dataclasses.replace`."""
        values = {name: getattr(instance, name) for name in instance.__match_args__}
        return type(instance)(**(values | changes))

    def dataclass(cls=None, /, *, frozen=False, slots=False):
        """As :func:`dataclasses.dataclass`; annotations are text (``from __future__``)."""
        if cls is None:
            return lambda cls: _made(cls, frozen, slots)
        return _made(cls, frozen, slots)

    def _made(cls, frozen, slots):
        fields = _fields(cls)
        for name, given in fields.items():
            if given.default is not _MISSING:
                setattr(cls, name, given.default)
            elif given.default_factory:
                delattr(cls, name)
        if slots:
            left = {k: v for k, v in cls.__dict__.items() if k not in fields}
            del left["__dict__"], left["__weakref__"]
            cls = type(cls)(cls.__name__, cls.__bases__, {**left, "__slots__": tuple(fields)})
        methods = _methods(cls, fields)
        if frozen:
            methods |= _frozen_methods(cls, fields)
        methods["__match_args__"] = tuple(fields)
        methods["__dataclass_fields__"] = _StandardFields(fields)
        for name, value in methods.items():
            if cls.__dict__.get(name) is None:
                setattr(cls, name, value)
        return cls

    def _fields(cls):
        fields = {}
        # inspect.get_annotations is what this module avoids to import.
        annotations = cls.__dict__.get("__annotations__", {})  # noqa: RUF063
        for name, annotation in annotations.items():
            if not annotation.startswith("ClassVar"):
                given = cls.__dict__.get(name, _MISSING)
                fields[name] = given if isinstance(given, _Field) else _Field(given)
        return fields

    def _methods(cls, fields):
        names = tuple(fields)
        layout = [(name, f.default, f.default_factory) for name, f in fields.items()]
        shown = [name for name, f in fields.items() if f.repr]

        def __init__(self, *args, **given):
            if args:
                if len(args) > len(names):
                    raise TypeError(f"{cls.__name__}: {len(args)} values, {len(names)} fields")
                for name, value in zip(names, args, strict=False):
                    if name in given:
                        raise TypeError(f"{cls.__name__}: two values for {name!r}")
                    given[name] = value
            for name, default, factory in layout:
                if name in given:
                    value = given.pop(name)
                elif factory is not None:
                    value = factory()
                elif default is not _MISSING:
                    value = default
                else:
                    raise TypeError(f"{cls.__name__}: no value for {name!r}")
                _put(self, name, value)
            if given:
                raise TypeError(f"{cls.__name__}: no field {next(iter(given))!r}")

        def __repr__(self):
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
            return f"{cls.__qualname__}({values})"

        def __eq__(self, other):
            if type(other) is not type(self):
                return NotImplemented
            return all(getattr(self, name) == getattr(other, name) for name in names)

        return {"__init__": __init__, "__repr__": __repr__, "__eq__": __eq__, "__hash__": None}

    def _frozen_methods(cls, fields):
        def refuse(self, name, *_value):
            from dataclasses import FrozenInstanceError

            raise FrozenInstanceError(f"{cls.__name__} is frozen: {name!r} cannot be changed")

        def __hash__(self):
            return hash(tuple([getattr(self, name) for name in fields]))

        def __setstate__(self, state):
            # With slots: (None, {slot: value}); copying must get past __setattr__.
            plain, slotted = state if isinstance(state, tuple) else (state, None)
            for name, value in {**(plain or {}), **(slotted or {})}.items():
                _put(self, name, value)

        return {
            "__setattr__": refuse,
            "__delattr__": refuse,
            "__hash__": __hash__,
            "__setstate__": __setstate__,
        }

    class _StandardFields:
        """``__dataclass_fields__``, made when the standard library asks for it."""

        def __init__(self, fields):
            self._fields = fields

        def __get__(self, instance, owner):
            import dataclasses

            def standard(given):
                options = {"repr": given.repr}
                if given.default is not _MISSING:
                    options["default"] = given.default
                elif given.default_factory:
                    options["default_factory"] = given.default_factory
                return dataclasses.field(**options)

            rows = [(name, object, standard(given)) for name, given in self._fields.items()]
            standard = dataclasses.make_dataclass(owner.__name__, rows)
            return standard.__dataclass_fields__

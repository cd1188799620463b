"""Names that say nothing collect everything."""

from __future__ import annotations

from tests.architecture.source import PARTS, PRODUCT, ROOT

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "shared", "lib", "impl"}
SUFFIXES = ("Manager", "Helper", "Helpers", "Util", "Utils", "Impl")


def test_no_module_or_folder_is_a_drawer_without_a_name():
    unnamed = [
        source.name
        for source in PRODUCT
        if {source.path.stem.strip("_"), *source.path.relative_to(ROOT).parts[:-1]} & DRAWERS
    ]
    assert not unnamed


def test_no_class_is_named_for_managing():
    vague = [
        f"{source.at(node)} {node.name}"
        for source in PRODUCT
        for node in source.classes()
        if node.name.endswith(SUFFIXES)
    ]
    assert not vague


def test_part_folders_are_not_packages():
    # With alembic/__init__.py, `import alembic` from a checkout would find ours instead of the library.
    assert not [part for part in PARTS if (ROOT / part / "__init__.py").exists()]

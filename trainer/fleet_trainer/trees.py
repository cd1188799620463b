"""LightGBM's text, looked through before it is handed over: LightGBM believes what it reads, and a text that is cut
off ends the process."""

from __future__ import annotations

from itertools import chain

OF_SPLITS = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
INSIDE = ("internal_value", "internal_weight", "internal_count")
LINES = [*("Tree", "num_leaves", "num_cat"), *OF_SPLITS, *OF_LEAVES, *INSIDE, *("is_linear", "shrinkage")]


def check(text: str, features: int, classes: int) -> None:
    """ValueError unless these are whole trees on so many features that tell so many classes."""
    head, _, _ = text.partition("Tree=0\n")
    told = _values(head)
    found = int(told.get("max_feature_idx", "")) + 1, int(told.get("num_tree_per_iteration", ""))
    if found != (features, classes) or told.get("num_class") != str(classes):
        raise ValueError(
            f"it takes {found[0]} features and tells {found[1]} classes, job.json describes {features} and {classes}"
        )
    begin = len(head)
    for number, size in enumerate(map(int, told.get("tree_sizes", "").split())):
        tree = text[begin : begin + size]
        if not tree.startswith(f"Tree={number}\n") or tree.count("\n") != len(LINES) + 2:
            raise ValueError(f"tree {number} is not where it should be")
        _check_tree(_values(tree), features)
        begin += len(tree)
    if not text.startswith("end of trees\n", begin) or "\nend of parameters\n" not in text[begin:]:
        raise ValueError("it is cut off")


def _check_tree(tree: dict[str, str], features: int) -> None:
    if list(tree) != [*LINES, ""] or tree["num_cat"] != "0" or tree["is_linear"] != "0":
        raise ValueError("it has trees of a kind that the trainer does not make")
    leaves = int(tree["num_leaves"])
    float(tree["shrinkage"])
    # A tree without a split is its value.
    listed = {name: tree[name].split(" ") for name in LINES[3:-2] if leaves > 1 or name == "leaf_value"}
    for name, values in listed.items():
        if len(values) != leaves - (name not in OF_LEAVES):
            raise ValueError(f"a tree of {leaves} leaves has {len(values)} of {name}")
        list(map(float, values))
    if leaves == 1:
        return
    if not all(0 <= int(feature) < features for feature in listed["split_feature"]):
        raise ValueError("a split is on a feature that there is not")
    for number, child in chain(enumerate(listed["left_child"]), enumerate(listed["right_child"])):
        # A leaf is told as -1 - its number; a split comes before those below it.
        if not (-leaves <= int(child) < 0 or number < int(child) < leaves - 1):
            raise ValueError("a split leads nowhere")


def _values(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.split("\n"))}

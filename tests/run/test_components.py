"""Mistyped names of components and arguments are told with the nearest name and the choices."""

import re

import pytest

from scripts.run.check import check_components, check_references

MASK = {"_target_": "scripts.data.EquispacedFractionMask", "acceleration": 3, "center_fraction": 0.08}


def test_a_mistyped_argument_names_the_key_the_near_match_and_the_choices():
    with pytest.raises(ValueError, match=r"'mask#accelaration': .*'acceleration'\? .*acceleration, center_fraction"):
        check_components({"mask": MASK}, {"mask": {**MASK, "accelaration": 6}})


def test_an_unknown_mask_lists_the_masks_and_no_other_class():
    with pytest.raises(ValueError, match="RadialMask") as error:
        check_components({"mask": MASK}, {"mask": {**MASK, "_target_": "scripts.data.RadialMask"}})
    listed = re.findall(r"scripts\.data\.(\w+)", str(error.value).partition("There are")[2])
    assert listed == ["EquispacedFractionMask", "EquispacedMask", "RandomMask"]


def test_a_class_whose_module_is_not_there_or_lists_no_names():
    with pytest.raises(
        ValueError, match="no component 'my_cnn.Net'; no module 'my_cnn' in this folder or .*PYTHONPATH"
    ):
        check_components({"network": {}}, {"network": {"_target_": "my_cnn.Net"}})
    with pytest.raises(
        ValueError, match="no component 'scripts.run.check.Net'; scripts.run.check has none of that name"
    ):
        check_components({"network": {}}, {"network": {"_target_": "scripts.run.check.Net"}})


def test_within_a_list_and_within_a_component():
    handler = {"_target_": "scripts.training.ClipGradient", "max_norm": 0.5}
    with pytest.raises(ValueError, match=r"'train#handlers#0#max_nrom'.*'max_norm'"):
        check_components({"train": {"handlers": [handler]}}, {"train": {"handlers": [{**handler, "max_nrom": 1}]}})


def test_what_the_files_say_and_what_takes_anything_is_left_alone():
    odd = {"_target_": "scripts.data.NoSuch", "x": 1}
    check_components({"mask": odd}, {"mask": odd})
    check_components(
        {}, {"mask": {"_target_": "CheckpointSaver", "x": 1}, "part": {"_target_": "builtins.dict", "x": 1}}
    )
    check_components({"mask": MASK}, {"mask": {**MASK, "acceleration": 6, "_disabled_": True}})


def test_a_reference_to_another_file_names_that_file():
    with pytest.raises(ValueError, match=r"'method' refers to 'forget_loader'.*add .*approximate\.yaml"):
        check_references({"method": [{"_target_": "x", "forget_loader": "@forget_loader"}]})
    with pytest.raises(ValueError, match="'a' refers to 'nowhere'.*mistyped"):
        check_references({"a": "$len(@nowhere#b)"})


def test_references_that_are_there_and_text_are_left_alone():
    check_references({"a": "$@b#c + 7 % 4", "b": {"c": 1}, "reason": "write to me@there.org", "d": "%b"})

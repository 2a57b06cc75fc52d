"""The settings of every verb: their types and ranges, declared once.

The check before any work (``scripts.run.check``), its messages and the verb ``help`` read this table; what a setting is
for and its default stand in the verb's config file. Arguments of components are declared where these are, by their
annotations (``scripts.run.kinds``).
"""

from __future__ import annotations

from dataclasses import replace

from scripts.run.kinds import (
    ADDRESS,
    COMPONENT,
    DEVICE,
    FLAG,
    FRACTION,
    FROM_ZERO,
    HANDLERS,
    MAPPING,
    NONE,
    NOTHING,
    PATH,
    REQUESTS,
    SEED,
    TEXT,
    Kind,
    above,
    fields,
    list_of,
    mapping_of,
    one_of,
    unlike,
    whole,
)

FILE_OR_NONE = PATH | NONE
COMMON: dict[str, Kind] = {
    "verb": TEXT,
    "output_dir": PATH,
    "overwrite": FLAG,
    "seed": SEED,
    "device": DEVICE | NOTHING,
    "precision": one_of("fp32", "bf16", "fp16"),
    "datalist": PATH | NONE,
    "forget_request": REQUESTS | NONE,
    "check_values": FLAG,
    "resume": FLAG,
    "batch_size": whole(1),
    "num_workers": whole(0, 1024),
    "train_epochs": whole(1),
    "unlearn_epochs": whole(1),
    "learning_rate": above(0, 1000),
    "val_interval": whole(1),
    "retain_fraction": FRACTION,
    "ledger": PATH | NONE,
    "enter_in_ledger": FLAG,
    "older_weights": FLAG,
    "tf32": FLAG,
    "deterministic": FLAG,
    "slices_per_measure": whole(1),
    "network": COMPONENT,
    "mask": COMPONENT,
    "loss_function": COMPONENT,
    "run_dir": FILE_OR_NONE,
    "original_weights": FILE_OR_NONE,
    "optimizer": COMPONENT,
    "lr_scheduler": COMPONENT,
    "handlers": HANDLERS,
}
HTML = Kind(
    "HTML, as scripts.audit.audit_section gives it",
    lambda v: isinstance(v, str) and v.strip().startswith("<"),
)
SECTIONS = ("training", "validation", "test")
NAMED = TEXT | whole(0)
IMAGE = fields(
    {"image": PATH},
    {"volume": whole(0), "slice_axis": whole(0, 2), "split": one_of(*SECTIONS)}
    | dict.fromkeys(("anatomy", "acquisition", "patient_id"), NAMED),
)
PIXELS = one_of("float32", "int16")
OF_VERB: dict[str, dict[str, Kind]] = {
    "train": {"oracle": FLAG, "forget_only": FLAG, "training_share": FRACTION},
    "unlearn": {
        "weights": FILE_OR_NONE,
        "prior": FILE_OR_NONE,
        "declared_prior": mapping_of(TEXT, 2) | NOTHING,
        "prior_passes": whole(1),
        "oracle_weights": FILE_OR_NONE,
        "evaluate_models": FLAG,
        "epoch_weights": FLAG,
        "erosion_limit": above(0) | NOTHING,
        "budget": above(0, 1000) | NOTHING,
        "passes_per_step": above(0, 1000),
        "teacher_steps": whole(1),
        "method_name": TEXT,
        "method": HANDLERS,
    },
    "evaluate": {
        "sections": unlike(list_of(one_of(*SECTIONS), 1)) | NOTHING,
        "weights": PATH | mapping_of(FILE_OR_NONE, 1),
    },
    "preview": {},
    "help": {"about": TEXT},
    "replay": {"run_dir": FILE_OR_NONE},
    "simulate": {
        "images": replace(list_of(IMAGE, 1), names_files=True),
        "num_coils": whole(1, 1024),
        "snr": above(0, 1e9),
        "matrix": list_of(whole(8, 4096), 2) | NOTHING,
        "splits": fields({}, dict.fromkeys(SECTIONS, FROM_ZERO)) | NOTHING,
        "gap": whole(0),
        "slices_per_volume": whole(1),
    },
    "audit": {
        "weights": PATH,
        "unlearned_weights": FILE_OR_NONE,
        "run_record": FILE_OR_NONE,
        "oracle_weights": FILE_OR_NONE,
        "oracle_seeds": list_of(PATH),
        "treated_oracle_weights": FILE_OR_NONE,
        "reference_weights": list_of(PATH),
        "likelihood_rate": FRACTION,
        "oracle_tuned": FLAG | NOTHING,
        "measures": mapping_of(MAPPING | NOTHING, 1),
        "full": FLAG,
        "gates": list_of(MAPPING, 1),
        "statistics": COMPONENT,
        "subgroups": list_of(TEXT),
        "relearning_steps": whole(0),
        "resurfacing_share": FROM_ZERO,
        "training_record": FILE_OR_NONE,
        "certificate": FLAG,
        "identifier_key": FILE_OR_NONE,
        "signing_key": FILE_OR_NONE,
    },
    "protocol": {
        "weights": FILE_OR_NONE,
        "oracle_weights": PATH | list_of(PATH) | NONE,
        "oracle_seeds": unlike(list_of(SEED)),
        "methods": unlike(list_of(TEXT, 1)),
        "fraction_methods": unlike(list_of(TEXT)),
        "retain_fractions": unlike(list_of(FRACTION)),
        "budget_methods": unlike(list_of(TEXT)),
        "budgets": unlike(list_of(above(0, 1000))),
        "further_training": above(0, 1000) | NOTHING,
        "seeds": unlike(list_of(SEED, 1)),
        "train_settings": MAPPING | NOTHING,
        "unlearn_settings": MAPPING | NOTHING,
        "devices": list_of(DEVICE, 1) | NOTHING,
        "n_jobs": whole(1, 4096),
        "threads": whole(1, 4096),
        "engine": one_of("local", "dask"),
        "scheduler": ADDRESS | NOTHING,
        "viewer_megabytes": above(0),
        "audit_section": HTML | NOTHING,
        "configs": PATH,
    },
    "ship": {
        "name": TEXT,
        "profile": one_of("inference", "full"),
        "run_dir": FILE_OR_NONE,
        "weights": FILE_OR_NONE,
        "network": COMPONENT | NOTHING,
        "version": TEXT | NOTHING,
        "changelog": TEXT | NOTHING,
        "data_source": TEXT | NOTHING,
        "data_license": FILE_OR_NONE,
        "audit_dir": FILE_OR_NONE,
    },
    "inference": {
        "bundle_root": PATH,
        "dataset_dir": PATH | list_of(PATH, 1),
        "formats": one_of("nifti", "dicom") | list_of(one_of("nifti", "dicom"), 1),
        "weights": PATH,
        "worklist": FILE_OR_NONE,
        "retrospective_mask": COMPONENT | NOTHING,
        "remove_oversampling": FLAG,
        "network_def": COMPONENT,
    },
    "serve": {
        "host": TEXT,
        "port": whole(0, 65535),
        "router": COMPONENT | NOTHING,
        "raw_days": FROM_ZERO,
        "metrics_port": whole(0, 65535) | NOTHING,
        "log_format": one_of("text", "json"),
        "pixels": PIXELS,
        "protocols": mapping_of(fields({}, {"pixels": PIXELS, "remove_oversampling": FLAG})) | NOTHING,
        "limits": MAPPING,
    },
    "send": {"source": PATH, "patience_s": FROM_ZERO, "router": COMPONENT},
}
# arguments of MONAI's and PyTorch's components, by name; those of networks are their own affair
OTHERS: dict[str, Kind] = {
    "lr": above(0, 1e6),
    **dict.fromkeys(("max_epochs", "interval", "save_interval"), whole(1)),
}


def settings_of(verb: str) -> dict[str, Kind]:
    """Key -> kind of every setting that a verb may have; overlays may add the settings of other verbs.

    >>> settings_of("train")["oracle"].expected
    'true or false'
    """
    others = {key: kind for kinds in OF_VERB.values() for key, kind in kinds.items()}
    kinds = {**others, **COMMON, **OF_VERB.get(verb, {})}
    return {key: kind for key, kind in kinds.items() if key != verb}  # under the verb's name stands what it runs

"""Configuration of a model fused by smelt (SMILE, arXiv:2408.10174).

config.json holds the base's own keys, `model_type: "smile"` and one `smile`
block. Read back, it is a configuration of the base's own class (a LlamaConfig,
a CLIPConfig, ...) that also carries the block, so that the base's modelling
code finds all it expects. Needs torch and transformers, nothing else.
"""

import functools
import os
import shutil

from transformers import CONFIG_MAPPING, PretrainedConfig

#: The version of the native format that this file reads.
FORMAT = 1
#: What stands before a base's class name in `architectures` of a fused model,
#: so that nobody takes the directory for the dense base.
PREFIX = "Smile"

_BLOCK_KEYS = {
    "format",
    "base",
    "base_model_type",
    "experts",
    "num_local_experts",
    "num_experts_per_tok",
    "rank_of_router",
    "modules",
}
_MODULE_KEYS = {"in", "out", "rank_of_router", "rank_of_expert", "transposed", "bias"}
#: Where this file is; transformers copies it to its cache, with what it imports.
FOLDER = os.path.dirname(os.path.abspath(__file__))
_CODE = ("configuration_smile.py", "modeling_smile.py")


def check_block(block):
    """Returns a `smile` block after checking it; raises ValueError at the first fault."""
    if not isinstance(block, dict):
        raise ValueError("config.json: no `smile` block: this is not a model fused by smelt")
    if block.get("format") != FORMAT:
        raise ValueError(
            f"config.json: smile: format {block.get('format')!r}, this code reads {FORMAT}:"
            " use the code that came with the model, or a newer smelt"
        )
    if unknown := set(block) - _BLOCK_KEYS:
        raise ValueError(f"config.json: smile: unknown keys {sorted(unknown)}")
    count, top_k = block["num_local_experts"], block["num_experts_per_tok"]
    if len(block["experts"]) != count or not 1 <= top_k <= count:
        raise ValueError(
            f"config.json: smile: {len(block['experts'])} experts listed, num_local_experts {count},"
            f" num_experts_per_tok {top_k}"
        )
    for name, module in block["modules"].items():
        if unknown := set(module) - _MODULE_KEYS:
            raise ValueError(f"config.json: smile: module {name!r}: unknown keys {sorted(unknown)}")
        ranks, limit = module["rank_of_expert"], min(module["in"], module["out"])
        if len(ranks) != count:
            raise ValueError(f"config.json: smile: module {name!r}: {len(ranks)} ranks for {count} experts")
        for rank in ranks:
            if not (rank is None or rank == "dense" or type(rank) is int and 0 <= rank <= limit):
                raise ValueError(f"config.json: smile: module {name!r}: rank {rank!r}, want 0 to {limit}")
        if not 0 <= module["rank_of_router"] <= limit:
            raise ValueError(
                f"config.json: smile: module {name!r}: rank_of_router {module['rank_of_router']}, want 0 to {limit}"
            )
    return block


def copy_code(save_directory, *folders):
    """Copies the code that auto_map names, each file from the first folder that has it."""
    os.makedirs(save_directory, exist_ok=True)
    for name in _CODE:
        target = os.path.join(save_directory, name)
        source = next((p for p in (os.path.join(f, name) for f in folders) if os.path.isfile(p)), None)
        if source and not (os.path.exists(target) and os.path.samefile(source, target)):
            shutil.copyfile(source, target)


class _Fused:
    """What a base's configuration class gains when its model is fused."""

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        check_block(config_dict.get("smile"))
        return super().from_dict(dict(config_dict, model_type=cls.model_type), **kwargs)

    def to_dict(self):
        values = super().to_dict()
        values["model_type"] = SmileConfig.model_type
        if values.get("architectures"):
            values["architectures"] = [PREFIX + name.removeprefix(PREFIX) for name in values["architectures"]]
        return values

    def save_pretrained(self, save_directory, **kwargs):
        """Writes config.json, and beside it the code that its auto_map names."""
        copy_code(save_directory, FOLDER, *([self._name_or_path] if self._name_or_path else []))
        super().save_pretrained(save_directory, **kwargs)

    def __reduce__(self):
        return _restore, (self.model_type, dict(self.__dict__))


@functools.cache
def config_class(base_model_type):
    """Returns the class of fused configurations of one base, e.g. of "llama"."""
    if base_model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"config.json: smile: base_model_type {base_model_type!r} is unknown to this version of transformers"
        )
    base = CONFIG_MAPPING[base_model_type]
    # A tensor-parallel plan would shard a layer's weight and leave its experts whole.
    plans = {"base_model_tp_plan": None, "base_model_ep_plan": None}
    # The name is SmileConfig's: AutoModel.register compares the names of classes.
    return type(
        "SmileConfig", (_Fused, base), {"__module__": __name__, "__doc__": base.__doc__, "base_config_class": base, **plans}
    )


def _restore(base_model_type, values):
    config = object.__new__(config_class(base_model_type))
    config.__dict__.update(values)
    return config


class SmileConfig(PretrainedConfig):
    """Entry point of AutoConfig: from_pretrained returns a configuration of the base's class."""

    model_type = "smile"

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        block = check_block(config_dict.get("smile"))
        return config_class(block["base_model_type"]).from_dict(config_dict, **kwargs)

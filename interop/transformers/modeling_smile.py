"""Models fused by smelt, in any architecture that transformers knows.

The base's own model class is built from the base's own configuration; the
linear layers that the `smile` block of config.json lists are then replaced by
fused ones, before any weight is loaded. A layer computes (arXiv:2408.10174,
with V stored once for router and expert)

    P = x vt^T;  score_e = ||P_e[:, :g]||;  top-k;  weights = softmax, renormalised
    y = x W^T + b + sum_selected weight_e (P_e[:, :r_e] us_e^T + bias_e)

for all tokens and experts at once. Letters: N tokens, E experts, g router rank,
r_e expert rank, R_e = max(r_e, g) rows. Needs torch and transformers only.
"""

import contextlib
import functools
import itertools
import re

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .configuration_smile import FOLDER, PREFIX, SmileConfig, config_class, copy_code

#: The AutoModel classes that config.json's auto_map points here; each becomes
#: a class of this module whose name has Smile in the place of Auto.
AUTO_CLASSES = (
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForMaskedLM",
    "AutoModelForPreTraining",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
    "AutoModelForTextEncoding",
    "AutoModelForImageClassification",
    "AutoModelForZeroShotImageClassification",
    "AutoModelForMaskedImageModeling",
    "AutoModelForObjectDetection",
    "AutoModelForSemanticSegmentation",
    "AutoModelForDepthEstimation",
    "AutoModelForVideoClassification",
    "AutoModelForImageTextToText",
    "AutoModelForVision2Seq",
    "AutoModelForAudioClassification",
    "AutoModelForCTC",
    "AutoModelForSpeechSeq2Seq",
)


class SmileDense(nn.Module):
    """The experts that are kept whole: parameters named by the expert's index, [out, in]."""

    def __init__(self, experts, weight, shape):
        super().__init__()
        for e in experts:
            self.register_parameter(str(e), nn.Parameter(weight.new_zeros(shape)))

    def forward(self, x, weights):
        total = 0
        for e, delta in self._parameters.items():
            total = total + weights[:, int(e), None] * F.linear(x.to(delta.dtype), delta)
        return total


class SmileExperts(nn.Module):
    """Router and experts of one linear layer.

    vt    [sum R_e, in]   right singular vectors of each touched expert's delta
    us    [out, sum r_e]  U diag(S) of each low-rank expert
    bias  [E, out]        changes of the bias
    dense                 whole deltas
    """

    def __init__(self, entry, num_experts_per_tok, weight, bias):
        super().__init__()
        ranks, g = entry["rank_of_expert"], entry["rank_of_router"]
        self.in_features, self.out_features = entry["in"], entry["out"]
        self.num_experts, self.top_k = len(ranks), min(num_experts_per_tok, len(ranks))
        self.router_rank, self.ranks = g, tuple(ranks)

        rows = [0 if r is None else g if r == "dense" else max(r, g) for r in ranks]
        low = [r if isinstance(r, int) else 0 for r in ranks]
        self.rows = sum(rows)
        #: every expert touched the layer and has the same rank: views do for indices
        self.uniform = len(set(ranks)) == 1 and bool(low[0])
        self.partial = None in ranks

        def tensor(name, present, *shape):
            self.register_parameter(name, nn.Parameter(weight.new_zeros(shape)) if present else None)

        tensor("vt", self.rows > 0, self.rows, self.in_features)
        tensor("us", sum(low) > 0, self.out_features, sum(low))
        # Without the flag a change of the bias is possible wherever there is a bias.
        self.bias_optional = "bias" not in entry
        tensor("bias", entry.get("bias", bias is not None), self.num_experts, self.out_features)
        whole = [e for e, r in enumerate(ranks) if r == "dense"]
        self.dense = SmileDense(whole, weight, (self.out_features, self.in_features)) if whole else None

        starts = [0, *itertools.accumulate(rows)]
        touched = [e for e, r in enumerate(ranks) if r is not None]
        self._constants = {
            # the columns of P that are scores, [touched * g], and whose they are, [touched]
            "score_columns": [starts[e] + i for e in touched for i in range(g)],
            "touched": touched,
            # the columns of P that experts read, [sum r_e], and whose they are, [sum r_e]
            "down_columns": [starts[e] + i for e, r in enumerate(low) for i in range(r)],
            "owners": [e for e, r in enumerate(low) for _ in range(r)],
            "untouched": [float(r is None) for r in ranks],
        }
        for name, values in self._constants.items():
            self.register_buffer(name, self._constant(values), persistent=False)

    @staticmethod
    def _constant(values, device=None):
        kind = torch.bool if values and isinstance(values[0], float) else torch.long
        return torch.tensor(values, dtype=kind, device=device)

    def restore_constants(self):
        """Fills the index buffers again: transformers builds models without data."""
        for name, values in self._constants.items():
            buffer = getattr(self, name)
            if buffer.device.type != "meta":
                buffer.copy_(self._constant(values, buffer.device))

    def scores(self, p):
        """Returns the norm of each expert's first g columns of P, 0 where untouched. [N, E]"""
        if self.uniform:
            return torch.linalg.vector_norm(p.unflatten(1, (self.num_experts, -1))[..., : self.router_rank], dim=-1)
        shape = (self.touched.numel(), self.router_rank)
        norms = torch.linalg.vector_norm(p.index_select(1, self.score_columns).unflatten(1, shape), dim=-1)
        return norms.new_zeros(len(p), self.num_experts).index_copy(1, self.touched, norms)

    def weights(self, p):
        """Selects experts and weighs them. [N, E], each row sums to 1."""
        if self.num_experts == 1:
            return p.new_ones(len(p), 1)
        scores = self.scores(p) if self.rows else p.new_zeros(len(p), self.num_experts)
        if self.top_k == self.num_experts:
            return scores.softmax(dim=1)
        # Touched experts first, then by score; equal ones by index, as argmax and a stable sort do.
        order = scores.masked_fill(self.untouched, -1.0) if self.partial else scores
        if self.top_k == 1:
            selected = order.argmax(dim=1, keepdim=True)
            return torch.zeros_like(scores).scatter(1, selected, 1.0)
        selected = order.sort(dim=1, descending=True, stable=True).indices[:, : self.top_k]
        return torch.zeros_like(scores).scatter(1, selected, scores.gather(1, selected).softmax(dim=1))

    def forward(self, x):
        """Returns what the experts add for x [N, in]: [N, out], at least in float32."""
        device = x.device.type
        with contextlib.nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            wide = torch.promote_types(torch.float32, x.dtype)
            x_wide = x.to(wide)
            p = x_wide.new_zeros(len(x), 0) if self.vt is None else F.linear(x_wide, self.vt.to(wide))
            weights = self.weights(p)
            total = p.new_zeros(len(x), self.out_features)
            if self.us is not None:
                if self.uniform:
                    down = p.unflatten(1, (self.num_experts, -1))[..., : self.ranks[0]] * weights[..., None]
                    down = down.flatten(1)
                else:
                    down = p.index_select(1, self.down_columns) * weights.index_select(1, self.owners)
                total = F.linear(down.to(self.us.dtype), self.us).to(wide)
            if self.bias is not None:
                total = total + weights @ self.bias.to(wide)
            if self.dense is not None:
                total = total + self.dense(x, weights)
            return total

    def extra_repr(self):
        ranks = self.ranks[0] if self.uniform else list(self.ranks)
        return f"experts={self.num_experts}, top_k={self.top_k}, router_rank={self.router_rank}, ranks={ranks}"


def _fused(base_output, experts, x):
    added = experts(x.reshape(-1, x.shape[-1]))
    return base_output + added.to(base_output.dtype).view(base_output.shape)


class SmileLinear(nn.Linear):
    """An nn.Linear with experts. To PEFT it is the linear layer that it holds."""

    def __init__(self, layer, experts):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias, self.smile = layer.weight, layer.bias, experts

    def forward(self, x):
        return _fused(super().forward(x), self.smile, x)


class SmileConv1D(Conv1D):
    """A Conv1D (GPT-2), whose weight is [in, out], with experts."""

    def __init__(self, layer, experts):
        nn.Module.__init__(self)
        self.nx, self.nf = layer.weight.shape
        self.weight, self.bias, self.smile = layer.weight, layer.bias, experts

    def forward(self, x):
        return _fused(super().forward(x), self.smile, x)


class SmileOpaqueLinear(nn.Module):
    """A fused layer for tools that replace every nn.Linear by their own: vLLM, quantisers."""

    def __init__(self, layer, experts):
        super().__init__()
        self.weight, self.bias, self.smile = layer.weight, layer.bias, experts
        self.transposed = isinstance(layer, Conv1D)

    def forward(self, x):
        weight = self.weight.T if self.transposed else self.weight
        return _fused(F.linear(x, weight, self.bias), self.smile, x)


FUSED_LAYERS = (SmileLinear, SmileConv1D, SmileOpaqueLinear)


def _names_in_model(model, modules):
    """Maps the modules' names in the checkpoint to those in model, as the loader will.

    A module that this model has no use for (the head, under AutoModel) is left out.
    """
    keys, prefix = model.state_dict(), model.base_model_prefix
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    except ImportError:  # before transformers 5 a name gains or loses the prefix, no more
        candidates = {m: (m, f"{prefix}.{m}", m.removeprefix(prefix + ".")) for m in modules}
        found = {m: [c for c in names if c + ".weight" in keys] for m, names in candidates.items()}
        return {m: names[0] for m, names in found.items() if names}

    transforms = get_model_conversion_mapping(model)
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    names = {}
    for module in modules:
        key = module + ".weight"
        renamed, merged = rename_source_key(key, renamings, converters, prefix, keys)
        if renamed not in keys and key in keys:
            renamed, merged = rename_source_key(key, [], [], prefix, keys)
        if merged is not None:
            raise ValueError(
                f"module {module!r}: this version of transformers merges its weight into {renamed!r}, which cannot"
                " hold experts: fuse again with --exclude for such modules"
            )
        if renamed in keys:
            names[module] = renamed.removesuffix(".weight")
    return names


def _replace_layers(model, block, opaque):
    """Replaces the layers that the block lists. Returns {name in the block: name in model}."""
    modules = block["modules"]
    names = _names_in_model(model, modules)
    if modules and not names:
        raise ValueError(f"{type(model).__name__} has none of the {len(modules)} fused modules of this checkpoint")
    for module, name in names.items():
        entry = modules[module]
        parent, _, child = name.rpartition(".")
        parent = model.get_submodule(parent)
        layer = getattr(parent, child)
        plain = type(layer).forward in (nn.Linear.forward, Conv1D.forward)
        if not plain or isinstance(parent, nn.MultiheadAttention):
            raise ValueError(
                f"module {module!r}: {type(layer).__name__} in {type(parent).__name__} is not called as a linear"
                " layer, so its experts would be passed over: fuse again with --exclude for it"
            )
        transposed = isinstance(layer, Conv1D)
        shape = tuple(reversed(layer.weight.shape)) if transposed else tuple(layer.weight.shape)
        if shape != (entry["out"], entry["in"]) or transposed != entry.get("transposed", False):
            raise ValueError(
                f"module {module!r}: weight {list(layer.weight.shape)} of {type(layer).__name__},"
                f" the block says [{entry['out']}, {entry['in']}]{' transposed' if entry.get('transposed') else ''}"
            )
        if opaque and "bias" not in entry:
            entry = dict(entry, bias=False)
        experts = SmileExperts(entry, block["num_experts_per_tok"], layer.weight, layer.bias)
        kind = SmileOpaqueLinear if opaque else SmileConv1D if transposed else SmileLinear
        fused = kind(layer, experts)
        fused.train(layer.training)
        setattr(parent, child, fused)
    return names


class SmileModelMixin:
    """What a model class gains when its layers are fused."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        opaque = config._attn_implementation == "vllm" or getattr(config, "quantization_config", None) is not None
        self.smile_modules = _replace_layers(self, config.smile, opaque)
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                # Plans shard weights and would leave the experts whole.
                module._tp_plan, module._ep_plan = {}, {}
        if self._no_split_modules:
            self._no_split_modules = {*self._no_split_modules, *(layer.__name__ for layer in FUSED_LAYERS)}
        # Heads that only one expert has; they belong to no layer of the base.
        self._keys_to_ignore_on_load_unexpected = {*(self._keys_to_ignore_on_load_unexpected or ()), r"^smile\.own\."}
        optional = (n for n in self.smile_modules.values() if self.get_submodule(n).smile.bias_optional)
        self._keys_to_ignore_on_load_missing = {
            *(self._keys_to_ignore_on_load_missing or ()),
            *(re.escape(name + ".smile.bias") for name in optional),
        }

    def tie_weights(self, *args, missing_keys=None, **kwargs):
        """Ties weights; the loader calls it last, so what it leaves without data is filled here."""
        if missing_keys is not None:
            kwargs["missing_keys"] = missing_keys
        super().tie_weights(*args, **kwargs)
        for name, module in self.named_modules():
            if isinstance(module, SmileExperts):
                module.restore_constants()
                if f"{name}.bias" in (missing_keys or ()) and module.bias_optional:
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info=False, **kwargs):
        """As in the base, but experts that are missing or have another shape are an error."""
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        lost = [n for n in model.smile_modules.values() if not isinstance(model.get_submodule(n), FUSED_LAYERS)]
        faults = [f"{name}: replaced by {type(model.get_submodule(name)).__name__}" for name in lost]
        faults += [f"{key}: missing" for key in info["missing_keys"] if ".smile." in key]
        faults += [f"{key[0]}: stored {list(key[1])}, want {list(key[2])}" for key in info["mismatched_keys"] if ".smile." in key[0]]
        owned = tuple(f"{name}.smile." for name in model.smile_modules.values())
        faults += [f"{key}: not expected" for key in info["unexpected_keys"] if key.startswith(owned)]
        if faults:
            more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
            raise ValueError(f"{pretrained_model_name_or_path}: experts do not fit: {'; '.join(sorted(faults)[:4])}{more}")
        return (model, info) if output_loading_info else model

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in the base; the block then lists the modules that are in the file, by their names there."""
        block = self.config.smile
        stored = {self._stored_name(name): block["modules"][module] for module, name in self.smile_modules.items()}
        copy_code(save_directory, FOLDER)
        self.config.smile = dict(block, modules=stored)
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            self.config.smile = block

    def _stored_name(self, name):
        """The module's name in a file that save_pretrained writes."""
        try:
            from transformers.core_model_loading import revert_weight_conversion
        except ImportError:
            return name
        key = next(iter(revert_weight_conversion(self, {f"{name}.smile.vt": torch.empty(0)})))
        return key.removesuffix(".smile.vt")


@functools.cache
def model_class(base):
    """Returns the fused form of a model class of transformers.

    It bears the base's name and module: transformers chooses losses, weight
    conversions and attention implementations by them.
    """
    members = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base.__name__, (SmileModelMixin, base), members)


class _AutoEntry:
    """What auto_map names for one AutoModel class: finds the base's class and fuses it."""

    auto_class = None
    _supports_attention_backend = True

    @classmethod
    def is_backend_compatible(cls):
        """Asked by vLLM before the base's class is known; whether that one is shows on loading."""
        return True

    @classmethod
    def register_for_auto_class(cls, auto_class=None):
        """Asked by the auto classes; the entries are registered by auto_map alone."""

    @classmethod
    def _resolve(cls, config):
        if not hasattr(config, "smile"):
            raise ValueError(f"{type(config).__name__} is not the configuration of a fused model: load it with AutoConfig")
        mapping = getattr(transformers, cls.auto_class)._model_mapping
        base_config = type(config).base_config_class
        if base_config not in mapping:
            raise ValueError(f"{cls.auto_class} has no class for the base's model type {config.model_type!r}")
        base = mapping[base_config]
        if isinstance(base, (list, tuple)):
            named = [PREFIX + candidate.__name__ for candidate in base]
            wanted = [base[named.index(name)] for name in config.architectures or [] if name in named]
            base = (wanted or base)[0]
        text = config.sub_configs.get("text_config")
        if text is not None and getattr(base, "config_class", None) is text:
            # The text model of a larger one, by itself: its configuration becomes the whole one.
            block = dict(config.smile, base_model_type=text.model_type)
            kept = {"smile": block, "architectures": config.architectures, "auto_map": config.auto_map}
            config = config_class(text.model_type).from_dict({**config.get_text_config().to_dict(), **kept})
        return model_class(base), config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, config=None, **kwargs):
        if config is None:
            config, kwargs = SmileConfig.from_pretrained(pretrained_model_name_or_path, return_unused_kwargs=True, **kwargs)
        model, config = cls._resolve(config)
        return model.from_pretrained(pretrained_model_name_or_path, *args, config=config, **kwargs)

    @classmethod
    def _from_config(cls, config, **kwargs):
        model, config = cls._resolve(config)
        return model._from_config(config, **kwargs)


for _name in AUTO_CLASSES:
    _entry = "Smile" + _name.removeprefix("Auto")
    globals()[_entry] = type(_entry, (_AutoEntry,), {"__module__": __name__, "auto_class": _name})

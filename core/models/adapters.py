"""Adapters on one base in memory: attach many, switch in milliseconds, mix in one batch.

A torch module; its methods are called in the thread that owns the model. Knows nothing of runs or training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.models.cpu4bit import forbid_packing_under_dora, restore_training_layout
from core.models.identity import KEPT, check_same, kept_identity
from core.models.mixing import Mixing, mixing_of

WEIGHTS = "adapter_model.safetensors"
BASE = "__base__"
"""peft's name for a row without an adapter in a mixed batch (``adapter_names``)."""


class Adapters:
    """The adapters of one model. The base's weights are never changed."""

    def __init__(self, model: Any) -> None:
        self._base = model
        self._identity: dict[str, str] = getattr(model, KEPT, {})
        self._peft: Any = None
        self._folders: dict[str, Path] = {}
        self._unmixable: set[str] = set()
        self._active: str | None = None
        self._layers: list[Any] = []
        self._mixing: Mixing | None = None

    @property
    def names(self) -> list[str]:
        """Attached adapters, in the order in which they came."""
        return list(self._folders)

    def attach(self, name: str, folder: Path) -> bool:
        """Load an adapter beside the others; False, and nothing happens, if it is there from the same folder.

        Its weights are kept in the model's own dtype: float32 adapters on a bf16 base make each step several
        times slower, and the base's rounding is as coarse.
        """
        if self._folders.get(name) == folder:
            return False
        config = read_config(folder)
        check_same(kept_identity(folder), self._identity, f"The adapter in {folder}")
        self._check_fit(folder, config)
        if name in self._folders:
            self.detach(name)
        self._unmix()
        if config.get("use_dora"):
            restore_training_layout(self._base)  # what isn't under it packs itself again
        try:
            if self._peft is None:
                from peft import PeftModel

                self._peft = PeftModel.from_pretrained(self._base, str(folder), adapter_name=name, autocast_adapter_dtype=False)
            else:
                self._peft.load_adapter(str(folder), adapter_name=name, autocast_adapter_dtype=False)
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            if self._peft is not None and name in self._peft.peft_config:
                self._peft.delete_adapter(name)
            self._mixing = mixing_of(self._layers)
            raise _misfit(folder, config, str(error).splitlines()[0]) from error
        self._cast(name)
        forbid_packing_under_dora(self._base)
        self._layers = self._plain_layers()
        self._mixing = mixing_of(self._layers)
        self._folders[name] = folder
        if config.get("use_dora") or config.get("bias", "none") != "none" or config.get("peft_type") != "LORA":
            self._unmixable.add(name)
        self._peft.eval()
        self._active = name
        self._switch(None)
        return True

    def detach(self, name: str) -> None:
        """Forget an adapter and free its memory."""
        if name in self._folders:
            self._switch(None)
            self._unmix()
            self._peft.delete_adapter(name)
            del self._folders[name]
            self._unmixable.discard(name)
            self._mixing = mixing_of(self._layers)

    def clear(self) -> None:
        """Let go of the base and all adapters."""
        self._unmix()
        self._base = self._peft = None
        self._layers = []
        self._folders.clear()

    def can_mix(self, names: Sequence[str | None]) -> bool:
        """Whether rows with these adapters can go in one forward pass: all the same, or plain LoRA (no DoRA, no biases)."""
        return len(set(names)) <= 1 or self._unmixable.isdisjoint(n for n in names if n is not None)

    def select(self, names: Sequence[str | None]) -> tuple[Any, dict[str, Any]]:
        """Make ready for rows with these adapters: the model to call, and its further arguments."""
        different = set(names)
        for name in different:
            if name is not None and name not in self._folders:
                raise ModelError(f"There is no adapter {name!r} on this model", "Attach it first.")
        if self._mixing is not None and self._unmixable.isdisjoint(different) and self._mixing.knows(names):
            self._mixing.use(names)
            return self._base, {}
        if self._mixing is not None:
            self._mixing.off()
        if len(different) == 1:
            self._switch(next(iter(different)))
            return (self._base if self._active is None else self._peft), {}
        self._switch(next(n for n in names if n is not None))  # peft looks at the names only while adapters are on
        return self._peft, {"adapter_names": [BASE if n is None else n for n in names]}

    def _unmix(self) -> None:
        """peft's layers as they were, for peft to change them."""
        if self._mixing is not None:
            self._mixing.undo()
            self._mixing = None

    def _switch(self, name: str | None) -> None:
        """Make an adapter, or none, the one that acts.

        peft's own ``set_adapter`` walks over all modules and sets the gradients of every weight (16 ms at 7B shape on an H100);
        nothing is trained here, so it is enough to name the adapter in each layer. Where whole modules were trained along
        (``modules_to_save``), or peft keeps its state in another way, its own way is taken.
        """
        if name == self._active or self._peft is None:
            return
        tuner = self._peft.base_model
        if self._layers:
            for layer in self._layers:
                layer._disable_adapters = name is None
                if name is not None:
                    layer._active_adapter = [name]
            if name is not None:
                tuner.active_adapter = self._peft.active_adapter = name
        elif name is None:
            tuner.disable_adapter_layers()
        else:
            if self._active is None:
                tuner.enable_adapter_layers()
            self._peft.set_adapter(name, inference_mode=True)
        self._active = name

    def _plain_layers(self) -> list[Any]:
        """The layers that hold adapters, if those are all there is to switch; else none."""
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        found = []
        for module in self._peft.modules():
            if isinstance(module, AuxiliaryTrainingWrapper):
                return []
            if isinstance(module, BaseTunerLayer):
                if not {"_disable_adapters", "_active_adapter"} <= {*vars(module), *dir(type(module))}:
                    return []
                found.append(module)
        return found

    def _cast(self, name: str) -> None:
        dtype = self._base.dtype
        for parameter_name, parameter in self._peft.named_parameters():
            if f".{name}." in f"{parameter_name}." and "lora_" in parameter_name:
                parameter.requires_grad_(False)
                if parameter.dtype != dtype:
                    parameter.data = parameter.data.to(dtype)

    def _check_fit(self, folder: Path, config: dict[str, Any]) -> None:
        """Compare shapes before peft touches the base: a failure half-way would leave its layers behind."""
        from safetensors import safe_open

        inner = self._base.get_base_model() if hasattr(self._base, "get_base_model") else self._base
        modules = dict(inner.named_modules())
        try:
            with safe_open(folder / WEIGHTS, framework="numpy") as weights:
                for key in weights.keys():  # noqa: SIM118  (not a mapping)
                    path, found, _ = key.removeprefix("base_model.model.").partition(".lora_A.")
                    if not found:
                        continue
                    size = getattr(modules.get(path), "in_features", None)
                    if size is None:
                        raise _misfit(folder, config, f"the model has no layer {path}")
                    if weights.get_slice(key).get_shape()[-1] != size:
                        raise _misfit(folder, config, f"{path} is {size} wide")
        except ModelError:
            raise
        except Exception as error:  # safetensors raises its own kind
            raise ModelError(f"{folder / WEIGHTS} can't be read: {error}", "Train or copy the adapter again.") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter's folder; ModelError where it isn't one or holds pickled weights."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is no adapter: it has no adapter_config.json", "Give the folder that training wrote.")
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        raise ModelError(
            f"The adapter in {folder} has " + ("pickled weights, which can run code when loaded" if pickled else "no weights"),
            "Save it as adapter_model.safetensors." if pickled else "The training has not finished: resume it.",
        )
    config = json.loads(path.read_text("utf-8"))
    return config if isinstance(config, dict) else {}


def _misfit(folder: Path, config: dict[str, Any], reason: str) -> ModelError:
    trained_on = config.get("base_model_name_or_path") or "another model"
    return ModelError(
        f"The adapter in {folder} doesn't fit this model: {reason}",
        f"It was trained on {trained_on}: load that model, or train the adapter again on this one.",
    )

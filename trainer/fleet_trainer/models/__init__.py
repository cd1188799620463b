"""The seven models by the name a manifest uses. Importing this package imports no numerical library."""

from __future__ import annotations

from pydantic import JsonValue

from fleet_trainer.hyper import Hyper
from fleet_trainer.models.cnn import Cnn
from fleet_trainer.models.gbt import Gbt
from fleet_trainer.models.gru import Gru
from fleet_trainer.models.lstm import Lstm
from fleet_trainer.models.mlp import Mlp
from fleet_trainer.models.transformer import Transformer
from fleet_trainer.models.transformer_ssl import TransformerSsl

MODELS: dict[str, type[Hyper]] = {
    "gbt": Gbt,
    "mlp": Mlp,
    "cnn": Cnn,
    "gru": Gru,
    "lstm": Lstm,
    "transformer": Transformer,
    "transformer_ssl": TransformerSsl,
}


def schemas() -> dict[str, JsonValue]:
    """JSON Schema of every model's hyper-parameters, without pydantic's titles."""
    return {name: _without_titles(model.model_json_schema()) for name, model in MODELS.items()}


def _without_titles(schema: JsonValue) -> JsonValue:
    if not isinstance(schema, dict):
        return schema
    return {key: _without_titles(value) for key, value in schema.items() if key != "title"}

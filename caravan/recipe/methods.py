"""How a stage trains a language model: every weight, or an adapter beside frozen ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from caravan.recipe.base import Section


class FullMethod(Section):
    """Every weight trains."""

    name: Literal["full"] = Field("full", description="which method")


class AdapterMethod(Section):
    """What LoRA and QLoRA have in common."""

    targets: list[str] | None = Field(
        None, description="names of the linear layers that get an adapter; default: all of the language model's"
    )
    embeddings: Literal["frozen", "new", "all"] = Field(
        "frozen",
        description="which rows of the embedding and output tables train beside the adapter: none, those of tokens that"
        " are new in this run, or all",
    )


class LoraMethod(AdapterMethod):
    """Matrices of low rank beside frozen ones (Hu et al. 2021); merged into them at the end."""

    name: Literal["lora"] = Field("lora", description="which method")
    r: PositiveInt = Field(8, description="rank")
    alpha: PositiveFloat = Field(32, description="the adapter is scaled by alpha / r")
    dropout: float = Field(0.05, ge=0.0, lt=1.0, description="dropout on the adapter's input")


class QloraMethod(AdapterMethod):
    """LoRA beside weights of 4 bits (Dettmers et al. 2023); merged into what those stand for at the end."""

    name: Literal["qlora"] = Field("qlora", description="which method")
    r: PositiveInt = Field(64, description="rank")
    alpha: PositiveFloat = Field(16, description="the adapter is scaled by alpha / r")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="dropout on the adapter's input")
    quantisation: Literal["nf4", "fp4"] = Field("nf4", description="the 16 values that a weight can take")
    double_quantisation: bool = Field(True, description="quantise the scales too, which saves 0.4 bits a weight")


class PrefixMethod(Section):
    """Keys and values before every layer's (Li and Liang 2021; P-tuning v2, Liu et al. 2022); the model stays."""

    name: Literal["prefix"] = Field("prefix", description="which method")
    tokens: PositiveInt = Field(128, description="positions of the prefix")


class PromptMethod(Section):
    """Embeddings before the prompt's (Lester et al. 2021); the model stays."""

    name: Literal["prompt"] = Field("prompt", description="which method")
    tokens: PositiveInt = Field(20, description="positions before the prompt")


def named(value: Any) -> Any:
    """A method by its name alone has its defaults."""
    return {"name": value} if isinstance(value, str) else value


# Only what can be merged into the weights can be trained on by a later stage, and exported.
Merged = Annotated[FullMethod | LoraMethod | QloraMethod, Field(discriminator="name")]
Method = Annotated[FullMethod | LoraMethod | QloraMethod | PrefixMethod | PromptMethod, Field(discriminator="name")]
PretrainMethod = Annotated[Merged, BeforeValidator(named)]
SftMethod = Annotated[Method, BeforeValidator(named)]

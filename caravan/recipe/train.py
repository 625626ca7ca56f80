"""The recipe's training stages: pretrain, encoders, align, sft."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from caravan.recipe.base import Section
from caravan.recipe.methods import FullMethod, PrefixMethod, PretrainMethod, QloraMethod, SftMethod
from caravan.recipe.samples import SamplesConfig


class OptimConfig(Section):
    """How long and how fast a stage trains; the same keys in every training stage."""

    steps: PositiveInt | None = Field(None, description="optimiser steps; default: as many as `epochs` needs")
    epochs: PositiveFloat = Field(1.0, description="passes over the data, where `steps` is not given")
    batch: PositiveInt = Field(16, description="sequences in an optimiser step, over all devices")
    micro_batch: PositiveInt = Field(16, description="sequences in one forward pass on one device")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: for the matrices of the layers, with AdamW for the rest"
    )
    learning_rate: PositiveFloat = Field(1e-3, description="peak learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="course of the learning rate after warm-up")
    min_ratio: float = Field(0.1, ge=0.0, le=1.0, description="where the cosine ends, as a share of the peak")
    warmup: NonNegativeFloat = Field(0.03, description="warm-up: below 1 a share of the run, otherwise steps")
    weight_decay: NonNegativeFloat = Field(0.0, description="decoupled weight decay; biases and norms are left out")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's decay rates")
    clip: NonNegativeFloat = Field(1.0, description="largest gradient norm; 0 leaves gradients as they are")
    spike: PositiveFloat | None = Field(
        4.0, description="a step whose gradient norm is over so many times the last 100 steps' median is a spike"
    )
    peak_tflops: PositiveFloat | None = Field(
        None, description="10^12 operations a second of one device, for the MFU; default: a matrix product, measured"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 autocast on hardware that multiplies it, fp32 elsewhere"
    )
    activation_checkpointing: bool = Field(False, description="recompute activations: less memory, a third more time")
    save_every: PositiveInt = Field(100, description="steps between checkpoints, the points a killed run goes on from")
    log_every: PositiveInt = Field(1, description="steps between lines of train.jsonl")
    tracker: Literal["tensorboard", "wandb", "trackio", "none"] = Field(
        "tensorboard", description="where the figures of train.jsonl can be watched too"
    )
    workers: int = Field(0, ge=0, description="processes that decode media; 0: in the training process")

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> OptimConfig:
        if self.batch % min(self.micro_batch, self.batch):
            raise ValueError(f"a batch of whole micro-batches: {self.batch} is no multiple of {self.micro_batch}")
        return self


class LlamaShape(Section):
    """A Llama from scratch."""

    hidden_size: PositiveInt = Field(160, description="width")
    layers: PositiveInt = Field(4, description="decoder layers")
    heads: PositiveInt = Field(5, description="attention heads")
    kv_heads: PositiveInt | None = Field(None, description="key and value heads; default: as many as heads")
    intermediate_size: PositiveInt | None = Field(None, description="width of the MLP; default: 8/3 of the width")
    tie_embeddings: bool = Field(True, description="one table for input and output embeddings")
    max_position: PositiveInt = Field(2048, description="longest sequence")
    rope_theta: PositiveFloat = Field(10_000.0, description="base of the rotary position embedding")

    @model_validator(mode="after")
    def _heads_divide(self) -> LlamaShape:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"heads of an even width: {self.hidden_size} is no multiple of 2 x {self.heads} heads")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads that share kv_heads evenly: {self.heads} is no multiple of {self.kv_heads}")
        return self


class MixtureConfig(Section):
    """Shares of the training tokens at one end of the run."""

    weights: dict[str, NonNegativeFloat] = Field(
        {},
        description="shares of languages in the monolingual tokens; those not named divide the rest by tokens ** alpha",
    )
    alpha: float = Field(0.5, ge=0.0, le=1.0, description="1: languages as they come; 0: all languages alike")
    pairs: float = Field(0.2, ge=0.0, le=1.0, description="share of parallel pairs, where there are any")


class ReplayConfig(Section):
    """What a model that is continued goes on to see of what it knows already, against forgetting."""

    languages: list[str] = Field(min_length=1, description="languages that the model knows")
    share: float = Field(0.1, gt=0.0, lt=1.0, description="their share of the tokens, all through the run")


class PositionsConfig(Section):
    """Other positions for a model that is continued."""

    rotary: bool = Field(False, description="rotary positions in place of learned ones (GPT-2, PolyLM)")
    scaling: Literal["linear", "ntk", "yarn"] | None = Field(
        None, description="how rotary positions reach further: divided, from a larger base, or each pair as it needs"
    )
    factor: float = Field(2.0, ge=1.0, description="how many times as long the window becomes")


class PretrainConfig(OptimConfig):
    """A Llama from scratch, or a model continued, on packed tokens with a language curriculum."""

    ASIDE = frozenset({"processes", "parallel"})

    steps: PositiveInt | None = Field(500, description="optimiser steps; null: as many as `epochs` needs")
    learning_rate: PositiveFloat = Field(3e-3, description="peak learning rate")
    weight_decay: NonNegativeFloat = Field(0.1, description="decoupled weight decay; biases and norms are left out")
    model: LlamaShape = Field(LlamaShape.model_validate({}), description="shape of a model from scratch")
    from_: str | None = Field(
        None, alias="from", description="Hugging Face folder (relative to `data`) or name to continue from"
    )
    new_rows: Literal["pieces", "mean", "zero"] = Field(
        "pieces",
        description="how the embedding and output rows of new tokens start: the mean of the rows of the old tokens that"
        " they were read as, the mean of all old tokens' rows, or zero",
    )
    new_rows_noise: NonNegativeFloat = Field(
        0.0, description="normal noise added to new rows, as a share of the old rows' deviation in each column"
    )
    method: PretrainMethod = Field(FullMethod.model_validate({}), description="what trains: full, lora or qlora")
    length: PositiveInt = Field(256, description="tokens in a sequence")
    positions: PositionsConfig = Field(
        PositionsConfig.model_validate({}), description="other positions for the model that is continued"
    )
    processes: PositiveInt = Field(1, description="processes that train together, one a GPU; any number may go on")
    parallel: Literal["ddp", "fsdp2", "zero3"] = Field(
        "ddp",
        description="what each of them holds: ddp: the whole model; fsdp2, zero3 (DeepSpeed): its share of weights,"
        " gradients and optimiser states",
    )
    replay: ReplayConfig | None = Field(
        None, description="a fixed share of languages that the model knows; the mixtures divide the rest"
    )
    start: MixtureConfig = Field(MixtureConfig.model_validate({}), description="mixture of stage 1")
    end: MixtureConfig = Field(MixtureConfig.model_validate({}), description="mixture of stage 2")
    change_from: float = Field(0.0, ge=0.0, le=1.0, description="share of the run after which the mixture moves")
    change_to: float = Field(1.0, ge=0.0, le=1.0, description="share of the run when stage 2 is reached; equal: a step")

    @model_validator(mode="after")
    def _fits(self) -> PretrainConfig:
        if self.change_from > self.change_to:
            raise ValueError("change_from <= change_to")
        if self.from_ is None and not isinstance(self.method, FullMethod):
            raise ValueError(f"a model to continue (`from`) for the method {self.method.name}")
        if self.from_ is None and self.positions != PositionsConfig():
            raise ValueError("a model to continue (`from`) for other positions; a new one has those of `model`")
        if self.batch % (self.processes * min(self.micro_batch, max(1, self.batch // self.processes))):
            raise ValueError(f"a batch of whole micro-batches in {self.processes} processes: {self.batch} is none")
        if self.parallel != "ddp" and isinstance(self.method, QloraMethod):
            raise ValueError(
                f"parallel: ddp for the method qlora, whose weights of 4 bits {self.parallel} cannot divide"
            )
        if self.parallel == "zero3" and self.optimizer == "muon":
            raise ValueError("optimizer: adamw for parallel: zero3, which cuts matrices into flat pieces")
        if self.replay and (twice := set(self.replay.languages) & {*self.start.weights, *self.end.weights}):
            raise ValueError(f"languages either in replay or in weights: {', '.join(sorted(twice))} is in both")
        if self.from_ is None and self.length > self.model.max_position:
            raise ValueError(f"length <= model.max_position, which is {self.model.max_position}")
        return self


class StackConfig(Section):
    """Ultravox's projector of speech: neighbouring frames side by side, then a gated linear unit."""

    name: Literal["stack"] = Field("stack", description="which projector")
    stack: PositiveInt = Field(15, description="encoder frames (20 ms each) that become one token; divides 1500")
    average: PositiveInt = Field(1, description="neighbouring frames averaged first; divides `stack`")
    hidden: PositiveInt | None = Field(None, description="inner width; default: the language model's")

    @model_validator(mode="after")
    def _average_divides(self) -> StackConfig:
        if self.stack % self.average:
            raise ValueError(f"an average that divides the stack: {self.stack} is no multiple of {self.average}")
        return self


class PixelShuffleConfig(Section):
    """Nemotron's projector of pictures: squares of patches side by side, then a squared-ReLU layer."""

    name: Literal["pixel_shuffle"] = Field("pixel_shuffle", description="which projector")
    scale: PositiveInt = Field(2, description="patches on each side of the square that becomes one token")
    hidden: PositiveInt | None = Field(None, description="inner width; default: the language model's")


class MlpConfig(Section):
    """LLaVA-1.5's two-layer projector, for pictures or speech."""

    name: Literal["mlp"] = Field(description="which projector")
    stack: PositiveInt = Field(1, description="neighbouring positions that become one token")
    hidden: PositiveInt | None = Field(None, description="inner width; default: the language model's")


class LinearConfig(Section):
    """LLaVA's first projector: one linear layer, for pictures or speech."""

    name: Literal["linear"] = Field(description="which projector")
    stack: PositiveInt = Field(1, description="neighbouring positions that become one token")


class QFormerConfig(Section):
    """BLIP-2's projector, for pictures or speech: a few learnt queries attend to the encoder's states."""

    name: Literal["qformer"] = Field(description="which projector")
    queries: PositiveInt = Field(32, description="tokens that a picture, or a window of speech, becomes")
    layers: PositiveInt = Field(12, description="blocks; every other one, from the first, attends to the states")
    heads: PositiveInt = Field(12, description="attention heads; divides `hidden`")
    hidden: PositiveInt = Field(768, description="width")

    @model_validator(mode="after")
    def _heads_divide(self) -> QFormerConfig:
        if self.hidden % self.heads:
            raise ValueError(f"heads that divide the width: {self.hidden} is no multiple of {self.heads}")
        return self


class DecoderConfig(Section):
    """LLaSM's projector of speech: one linear layer over 64 states of Whisper's decoder."""

    name: Literal["decoder64"] = Field(description="which projector")


SpeechProjector = Annotated[
    StackConfig | MlpConfig | LinearConfig | QFormerConfig | DecoderConfig, Field(discriminator="name")
]
VisionProjector = Annotated[PixelShuffleConfig | MlpConfig | LinearConfig | QFormerConfig, Field(discriminator="name")]


PartName = Literal["language", "speech_projector", "vision_projector", "speech_encoder", "vision_encoder"]


class FinetuneConfig(OptimConfig):
    """What align and sft have in common."""

    rates: dict[PartName, NonNegativeFloat] = Field(
        {}, description="peak learning rates of parts by name, in place of the stage's own; 0: the part is frozen"
    )

    length: PositiveInt = Field(512, description="tokens in a sequence; several dialogues are packed into one")
    tasks: list[str] | None = Field(None, description="tasks of the dialogues to train on; default: all")
    weights: dict[str, NonNegativeFloat] = Field(
        {}, description="share of each task, relative to its number of dialogues times this weight; default 1"
    )
    states_gb: NonNegativeFloat = Field(
        3.0, description="disk for a frozen encoder's states, which saves running it again for a medium seen before"
    )
    speech_shift: NonNegativeInt = Field(
        0,
        description="most states (of 20 ms) by which a clip's kept states are moved at each use; 0: as they are",
    )
    speech_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the speech encoder's channels that a clip's kept states lack at each use"
    )


class WordsConfig(OptimConfig):
    """Projectors trained without the language model: what they make of a medium must tell its words."""

    steps: PositiveInt | None = Field(1000, description="optimiser steps; null: as many as `epochs` needs")
    batch: PositiveInt = Field(128, description="media in an optimiser step, half of them clips if there are both")
    micro_batch: PositiveInt = Field(128, description="media in one forward pass on one device")
    learning_rate: PositiveFloat = Field(3e-3, description="peak learning rate")
    sharpness: PositiveFloat = Field(10.0, description="logit of a word where a token is that word's embedding")


class AlignConfig(FinetuneConfig):
    """Projectors trained between a frozen language model and frozen encoders."""

    words: WordsConfig | None = Field(
        None, description="first make tokens of media tell, as embeddings do, the words of their transcripts and names"
    )

    text: str | None = Field(
        None,
        description="language model to attach them to: a Hugging Face folder (relative to `data`) or hub name, which "
        "gets the special tokens and the chat template that it lacks; default: this run's",
    )
    speech: str | None = Field(
        "encoders",
        description="speech encoder: `encoders` (this run's), `sample-whisper`, a folder or hub name; `model`: what "
        "the model has already, with its projector; null: none",
    )
    vision: str | None = Field(
        "encoders",
        description="vision encoder: `encoders` (this run's), `sample-clip`, a folder or hub name; `model`: what "
        "the model has already, with its projector; null: none",
    )
    speech_projector: SpeechProjector = Field(
        StackConfig.model_validate({}), description="from the speech encoder to the language model"
    )
    vision_projector: VisionProjector = Field(
        PixelShuffleConfig.model_validate({}), description="from the vision encoder to the language model"
    )
    image_size: PositiveInt | None = Field(
        None, description="side of the pictures in pixels, for a DINOv2, which stretches; default: the encoder's own"
    )
    learning_rate: PositiveFloat = Field(2e-3, description="peak learning rate of the projectors")
    tasks: list[str] | None = Field(["transcribe", "caption"], description="tasks of the dialogues to train on")

    def replaces(self) -> tuple[str, ...]:
        return ("model",) if self.text else ()


class SftConfig(FinetuneConfig):
    """Projectors and language model trained on dialogues; encoders frozen."""

    epochs: PositiveFloat = Field(2.0, description="passes over the data, where `steps` is not given")
    learning_rate: PositiveFloat = Field(1e-3, description="peak learning rate of the language model")
    projector_learning_rate: PositiveFloat = Field(1e-3, description="peak learning rate of the projectors")
    method: SftMethod = Field(
        FullMethod.model_validate({}),
        description="what of the language model trains: full, lora, qlora, prefix, prompt",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> SftConfig:
        if getattr(self.method, "embeddings", None) == "new":
            raise ValueError("method.embeddings frozen or all: tokens are new in pretrain")
        if isinstance(self.method, PrefixMethod) and self.activation_checkpointing:
            raise ValueError("activation_checkpointing: false for the method prefix, whose states it would not see")
        return self


class SpeechShape(Section):
    """A small Whisper."""

    hidden_size: PositiveInt = Field(128, description="width")
    layers: PositiveInt = Field(2, description="encoder layers")
    decoder_layers: PositiveInt = Field(2, description="decoder layers")
    heads: PositiveInt = Field(4, description="attention heads")
    vocabulary: PositiveInt = Field(512, description="entries of its own byte-level vocabulary of transcripts")


class VisionShape(Section):
    """A small CLIP."""

    hidden_size: PositiveInt = Field(128, description="width")
    layers: PositiveInt = Field(4, description="layers of the image tower")
    text_layers: PositiveInt = Field(2, description="layers of the text tower")
    heads: PositiveInt = Field(4, description="attention heads")
    image_size: PositiveInt = Field(64, description="pixels on each side")
    patch_size: PositiveInt = Field(8, description="pixels on each side of a patch")
    vocabulary: PositiveInt = Field(1024, description="entries of its own byte-level vocabulary of names")


class SampleSource(Section):
    """The sample world."""

    samples: SamplesConfig = Field(description="how much of the sample world")


class DialogueSource(Section):
    """Transcription and captioning dialogues of this run."""

    tasks: list[str] = Field(["transcribe", "caption"], description="tasks whose answers are transcripts and names")


class SpeechConfig(OptimConfig):
    """The speech encoder: transcription."""

    epochs: PositiveFloat = Field(6.0, description="passes over the clips, where `steps` is not given")
    batch: PositiveInt = Field(32, description="clips in an optimiser step")
    micro_batch: PositiveInt = Field(32, description="clips in one forward pass on one device")
    learning_rate: PositiveFloat = Field(2e-3, description="peak learning rate")
    model: SpeechShape = Field(SpeechShape.model_validate({}), description="shape of an encoder from scratch")
    from_: str | None = Field(None, alias="from", description="`sample-whisper` or a folder to continue from")
    full_windows: float = Field(0.1, ge=0.0, le=1.0, description="share of the steps, the last, on whole 30 s windows")
    ctc: float = Field(0.5, ge=0.0, le=1.0, description="share of the auxiliary CTC loss on the encoder")
    noise: float = Field(0.15, ge=0.0, le=1.0, description="share of the clips heard in another room, in noise")
    words: int = Field(4096, ge=300, description="size of the vocabulary of words that every half second must tell")


class VisionConfig(OptimConfig):
    """The vision encoder: contrastive with names."""

    epochs: PositiveFloat = Field(20.0, description="passes over the pictures, where `steps` is not given")
    batch: PositiveInt = Field(64, description="pictures in an optimiser step")
    micro_batch: PositiveInt = Field(64, description="pictures in one forward pass on one device")
    learning_rate: PositiveFloat = Field(1e-3, description="peak learning rate")
    model: VisionShape = Field(VisionShape.model_validate({}), description="shape of an encoder from scratch")
    from_: str | None = Field(None, alias="from", description="`sample-clip` or a folder to continue from")


class EncodersConfig(Section):
    """Small stand-ins for Whisper and CLIP, in the true architectures."""

    source: SampleSource | DialogueSource = Field(
        DialogueSource.model_validate({}), description="`{samples: {...}}`, or `{tasks: [...]}` of this run's dialogues"
    )
    speech: SpeechConfig | None = Field(SpeechConfig.model_validate({}), description="null: no speech encoder")
    vision: VisionConfig | None = Field(VisionConfig.model_validate({}), description="null: no vision encoder")

    @model_validator(mode="after")
    def _something(self) -> EncodersConfig:
        if self.speech is None and self.vision is None:
            raise ValueError("speech, vision or both")
        return self

"""What is trained: augmentation, front end, network and loss as a Lightning module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from audiorep import models
from audiorep.datasets.clips import epoch_seed
from audiorep.datasets.resident import ResidentClips
from audiorep.errors import ConfigError
from audiorep.models.front_end import LogMel, frames_of, repeat_last
from audiorep.models.layers import Network, channels_last
from audiorep.models.resized import change_layers
from audiorep.training import augment, distil, unknown
from audiorep.training.capture import LastMap
from audiorep.training.recipe import TrainConfig
from audiorep.training.teachers import Lesson, Teachers

Batch = tuple[Tensor, dict[str, Tensor], Tensor]
"""Waveforms (B, N), {head: targets (B, K)} and samples of sound (B,)."""
TaughtBatch = tuple[Tensor, dict[str, Tensor], Tensor, dict[str, Tensor]]
"""The same, and the teachers' {head: scores (B, K)}, empty where they are not kept."""


def build_network(config: TrainConfig, labels: dict[str, list[str]]) -> Network:
    """The network of the settings with new weights, channels last."""
    network = models.build(config.architecture, {h: len(n) for h, n in labels.items()}, config.network_settings)
    return channels_last(change_layers(network, config.layers))


class Trainee(lightning.LightningModule):
    """Augmentation, front end, network and loss of one training."""

    def __init__(
        self,
        config: TrainConfig,
        labels: dict[str, list[str]],
        steps_per_epoch: int,
        class_weights: dict[str, Tensor],
        noise: Sequence[Tensor] = (),
        network: nn.Module | None = None,
        resident: ResidentClips | None = None,
    ) -> None:
        """A training of `network`, by default a new one as `config` says.

        Args:
            config: the settings.
            labels: the classes of each head.
            steps_per_epoch: by which the learning rate's schedule counts.
            class_weights: {head: (K,)} weights in the loss.
            noise: recordings (N,) to mix in.
            network: (B, 1, T, F) to {head: logits (B, K)}.
            resident: the clips as they lie on the device, where batches are but their numbers.
        """
        super().__init__()
        self.settings, self.labels, self.steps_per_epoch = config, labels, steps_per_epoch
        self.front_end = LogMel(config.front_end_config, torch.float32)
        self.network = build_network(config, labels) if network is None else network
        self.class_weights, self.noise = class_weights, noise
        self.teachers: Teachers | None = None
        self.matches, self.embedding_matches = nn.ModuleList(), nn.ModuleList()
        self.resident = resident
        self._last_map = LastMap(self.network) if isinstance(self.network, Network) else None
        self._generator = Generator()
        self.train()  # Lightning leaves modes as they are

    def learn_from(self, teachers: Teachers) -> None:
        """Takes teachers, and makes projections to each one's last map where maps or embeddings are to be matched.

        Raises:
            ConfigError: they are to be matched and the network is none of `models`, which have a last map.
        """
        self.teachers, settings = teachers, self.settings.distil
        if settings.matches:
            if self._last_map is None:
                raise ConfigError(
                    "A network in training under int8's rounding has no last map to match; set distil.features=0 and "
                    "distil.embedding=0."
                )
            front_end = self.settings.front_end_config
            example = torch.zeros(1, 1, front_end.frames(front_end.samples(self.settings.window_seconds)), front_end.mels)
            self.eval()
            with torch.no_grad():
                channels = self._last_map.network.forward_features(example).shape[1]
            if settings.features:
                self.matches.extend(distil.FeatureMatch(channels, theirs) for theirs in teachers.channels)
            if settings.embedding:
                self.embedding_matches.extend(distil.EmbeddingMatch(channels, theirs) for theirs in teachers.channels)
            self.train()

    def _forward(self, spectrogram: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """The logits of spectrograms (B, 1, T, F) in training, and the last map where the network has one."""
        if self._last_map is None:
            return self.network(spectrogram), None
        last = self._last_map(spectrogram)
        return self._last_map.network.classify(last), last

    def on_fit_start(self) -> None:
        """Moves the teachers, who are no part of what is trained and saved, to where the network is."""
        if self.teachers is not None:
            self.teachers.to(self.device)

    def train(self, mode: bool = True) -> Trainee:
        """Training mode, in which norms that `freeze_norms` names keep their statistics."""
        super().train(mode)
        if mode and self.settings.freeze_norms:
            for norm in self.norms(frozen=True):
                norm.eval()
        return self

    def norms(self, frozen: bool) -> list[_BatchNorm]:
        """The batch norms whose statistics training keeps, or with `frozen` false those whose statistics it updates."""
        found = [(name, module) for name, module in self.network.named_modules() if isinstance(module, _BatchNorm)]
        chosen = self.settings.freeze_norms
        return [norm for name, norm in found if (chosen == "all" or (chosen and not name.startswith("stem."))) == frozen]

    def measure_norms(self, batches: Iterable[Batch | TaughtBatch]) -> None:
        """Sets the moving norms' statistics to their mean over `batches` (precise BN, arXiv 2105.07576, section 3.3)."""
        moving = self.norms(frozen=False)
        before = [norm.momentum for norm in moving]
        self.train()
        for norm in moving:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
        with torch.no_grad():
            for batch in batches:
                spectrogram, _ = self.prepare(*self.heard(batch))
                self.network(spectrogram)
        for norm, momentum in zip(moving, before, strict=True):
            norm.momentum = momentum
        self.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Every draw of an epoch depends on the seed and the epoch alone, so a resumed run repeats an unbroken one.

        Not at the epoch's start: making a loader's iterator draws too, and Lightning makes a run's first one later.
        """
        if batch_idx == 0:
            self.seed_epoch(self.current_epoch)

    def seed_epoch(self, epoch: int) -> None:
        """Makes the draws that follow those of an epoch."""
        seed = epoch_seed(self.settings.seed, epoch)
        torch.manual_seed(seed)
        self._generator = Generator(self.device).manual_seed(seed)

    def heard(self, batch: Batch | TaughtBatch | Tensor) -> Batch | TaughtBatch:
        """The sound of a batch, where it is but the numbers (B,) of clips that lie on the device already."""
        if not isinstance(batch, Tensor):
            return batch
        assert self.resident is not None
        return self.resident.batch(batch, self._generator)

    def training_step(self, batch: Batch | TaughtBatch | Tensor, index: int) -> Tensor:
        """The loss of a batch."""
        waveform, targets, sound, taught = self.augmented_waveforms(*self.heard(batch))
        spectrogram = self.augmented_spectrograms(waveform, sound)
        logits, last = self._forward(spectrogram)
        if self.settings.distil.teachers:
            loss = self._distil(logits, last, targets, self._lesson(waveform, sound, taught))
        else:
            loss = self._mean_loss(logits, targets)
        self.log("learning_rate", self.optimizers().param_groups[-1]["lr"], on_step=False, on_epoch=True)  # type: ignore[union-attr]
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(spectrogram))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Logs loss and accuracy of a batch as it is, the mean over heads."""
        waveform, targets, samples = batch
        logits = self.network(self._spectrogram(waveform, samples).contiguous(memory_format=torch.channels_last))
        values: dict[str, list[Tensor]] = {"valid_loss": [], "valid_accuracy": []}
        for head, wanted in targets.items():
            values["valid_loss"].append(self._criterion(logits[head], wanted))
            values["valid_accuracy"].append(_accuracy(logits[head], wanted, self.settings.multi_label))
        for name, of_heads in values.items():
            self.log(name, torch.stack(of_heads).mean(), prog_bar=True, batch_size=len(waveform))

    def configure_optimizers(self) -> Any:
        """The optimizer and its schedule, which advances every step."""
        settings, groups = self.settings.optimizer, self._parameter_groups()
        optimizer: torch.optim.Optimizer
        if settings.name == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        else:
            optimizer = torch.optim.SGD(
                groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0
            )
        schedule, epochs, steps = self.settings.schedule, self.settings.epochs, self.steps_per_epoch

        def of_heads(step: int) -> float:
            return schedule.factor((step + 1) / steps, epochs)

        def of_trunk(step: int) -> float:
            return settings.trunk_rate * of_heads(step) if step >= settings.frozen_epochs * steps else 0.0

        rates: list[Callable[[int], float]] = [of_heads if group["name"].startswith("heads") else of_trunk for group in groups]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """What learns: heads and projections, and the trunk, each as weights and as norms and biases, which never decay."""
        decay, groups = self.settings.optimizer.weight_decay, []
        for part in ("trunk", "heads"):
            own = [p for name, p in self.named_parameters() if self._part(name) == part]
            groups += [
                {"params": [p for p in own if p.ndim > 1], "weight_decay": decay, "name": f"{part} weights"},
                {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0, "name": f"{part} biases"},
            ]
        return [group for group in groups if group["params"]]

    def _part(self, name: str) -> str:
        """Whether a parameter is of the network's trunk, or of its heads or a projection."""
        return "trunk" if name.startswith("network.") and not name.startswith("network.heads.") else "heads"

    def prepare(
        self, waveform: Tensor, targets: dict[str, Tensor], sound: Tensor, taught: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """An augmented spectrogram (B, 1, T, F) and targets to match."""
        waveform, targets, sound, _ = self.augmented_waveforms(waveform, targets, sound, taught)
        return self.augmented_spectrograms(waveform, sound), targets

    def augmented_waveforms(
        self, waveform: Tensor, targets: dict[str, Tensor], sound: Tensor, taught: dict[str, Tensor] | None = None
    ) -> TaughtBatch:
        """The batch as augmented waveforms (B, N), some mixed with others, and the targets and teachers' scores that fit."""
        taught = taught or {}
        config, generator, front_end = self.settings.augment, self._generator, self.settings.front_end_config
        samples = front_end.samples(self.settings.cut_seconds or self.settings.window_seconds)
        with torch.no_grad():
            noise = self._background(len(waveform), samples) if self.noise else None
            waveform = augment.augment_waveform(waveform, config, samples, front_end.sample_rate, noise, generator)
            if config.mixup and torch.rand((), generator=generator, device=generator.device) < config.mixup:
                ratio, partner = augment.draw_mixup(len(waveform), config.mixup_alpha, generator)
                waveform = augment.mix(waveform, ratio, partner)
                targets, taught = (
                    {head: augment.mix_targets(values, ratio, partner) for head, values in table.items()}
                    for table in (targets, taught)
                )
                sound = sound.maximum(sound[partner])
            if chance := self.settings.unknown.synthetic:
                waveform, targets = unknown.replace_some(waveform, targets, chance, front_end.sample_rate, generator)
        return waveform, targets, sound, taught

    def augmented_spectrograms(self, waveform: Tensor, sound: Tensor) -> Tensor:
        """The augmented spectrograms (B, 1, T, F) of augmented waveforms (B, N)."""
        with torch.no_grad():
            clean = self._spectrogram(waveform, sound)
            spectrogram = augment.augment_spectrogram(clean, self.settings.augment, self._generator)
        return spectrogram.contiguous(memory_format=torch.channels_last)

    def _lesson(self, waveform: Tensor, sound: Tensor, taught: dict[str, Tensor]) -> Lesson:
        """The teachers' outputs for augmented waveforms, or the scores that were kept, mixed as the targets were."""
        return Lesson(taught) if self.teachers is None else self.teachers(waveform, sound)

    def _distil(self, logits: dict[str, Tensor], last: Tensor | None, targets: dict[str, Tensor], lesson: Lesson) -> Tensor:
        """The loss against labels and teachers."""
        settings, parts = self.settings.distil, {}
        for name, matches in (("features_loss", self.matches), ("embedding_loss", self.embedding_matches)):
            if len(matches):
                assert last is not None  # `learn_from` saw to it
                parts[name] = self._matched(matches, last, lesson)
        soft = [
            distil.soft_target_loss(logits[head], scores, settings.temperature, self.settings.multi_label)
            for head, scores in lesson.scores.items()
        ]
        parts["soft_loss"] = torch.stack(soft).mean()
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(next(iter(logits.values()))))
        labels = (1 - settings.soft) * self._mean_loss(logits, targets) if settings.soft < 1 else 0.0
        maps = settings.features * parts.get("features_loss", 0.0) + settings.embedding * parts.get("embedding_loss", 0.0)
        return labels + settings.soft * parts["soft_loss"] + maps

    def _matched(self, matches: nn.ModuleList, last: Tensor, lesson: Lesson) -> Tensor:
        """The weighted mean over teachers of what `matches` say of the last map and theirs."""
        weights = distil.shares(self.settings.distil.weights, len(lesson.maps))
        losses = [match(last, theirs) for match, theirs in zip(matches, lesson.maps, strict=True)]
        return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()

    def _spectrogram(self, waveform: Tensor, sound: Tensor) -> Tensor:
        """(B, 1, T, F) of (B, N), of which `sound` (B,) samples are a clip's own."""
        spectrogram = self.front_end(waveform)
        if self.settings.padding != "edge_frames":
            return spectrogram
        return repeat_last(spectrogram, frames_of(self.settings.front_end_config, sound, waveform.shape[1]))

    def _background(self, count: int, samples: int) -> Tensor:
        """(B, samples) cuts of the noise recordings, of unit level."""
        cuts = []
        for draw in torch.rand(count, 2, generator=self._generator, device=self._generator.device).tolist():
            recording = self.noise[int(draw[0] * len(self.noise))]
            start = int(draw[1] * max(len(recording) - samples, 0))
            cuts.append(recording[start : start + samples].repeat(-(-samples // len(recording)))[:samples])
        return augment.unit_level(torch.stack(cuts).to(self.device))

    def _mean_loss(self, logits: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """The loss against the labels, the mean over heads."""
        return torch.stack([self.loss(logits[head], wanted, head) for head, wanted in targets.items()]).mean()

    def loss(self, logits: Tensor, targets: Tensor, head: str) -> Tensor:
        """The training loss of one head: logits (B, K) against targets (B, K)."""
        smoothing = self.settings.label_smoothing
        if smoothing and not self.settings.multi_label:
            targets = augment.smooth(targets, smoothing)
        weights = self.class_weights.get(head)
        return self._criterion(logits, targets, None if weights is None else weights.to(logits.device))

    def _criterion(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if self.settings.multi_label:
            return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
        return functional.cross_entropy(logits, targets, weight=weights)


def _accuracy(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    if multi_label:
        return ((logits > 0) == (targets > 0.5)).float().mean()
    return (logits.argmax(1) == targets.argmax(1)).float().mean()

"""The kinds of cases: a module (a group, whose cases share a process) and a function in it."""

from __future__ import annotations

KINDS = (
    "sounds.damaged",
    "sounds.cut",
    "sounds.lying",
    "sounds.joined",
    "sounds.beside",
    "sounds.stdin",
    "sounds.shard",
    "models.bundle_bytes",
    "models.bundle_cut",
    "models.bundle_metadata",
    "models.appended",
    "models.appended_cut",
    "models.pair_bytes",
    "models.config",
    "models.safetensors",
    "models.checkpoint_cut",
    "models.pyth",
    "models.tflite",
    "models.weights",
    "folders.tree",
    "manifests.table",
    "manifests.round_trip",
    "names.evaluations",
    "names.predictions",
    "names.texts",
)

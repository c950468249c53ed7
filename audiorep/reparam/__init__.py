"""Structural re-parameterization of any network: merge what is linear, exactly, with proof. Knows nothing of audio."""

from audiorep.reparam.fusing import FuseResult, fuse, plan
from audiorep.reparam.module import Fused, trainable
from audiorep.reparam.parallel import Parallel
from audiorep.reparam.report import Cost, Merge, Plan, Skip
from audiorep.reparam.verify import Verification

__all__ = [
    "Cost",
    "FuseResult",
    "Fused",
    "Merge",
    "Parallel",
    "Plan",
    "Skip",
    "Verification",
    "fuse",
    "plan",
    "trainable",
]

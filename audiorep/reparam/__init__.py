"""Structural re-parameterization: merges the linear operations of any network exactly and proves that it computes the same."""

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

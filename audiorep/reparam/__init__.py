"""Structural re-parameterization: merge what is linear, exactly, and prove it. Imports torch only, nothing of audio."""

from audiorep.reparam.fuse import Verification, fuse, merge_branches, verify
from audiorep.reparam.parallel import Parallel

__all__ = ["Parallel", "Verification", "fuse", "merge_branches", "verify"]

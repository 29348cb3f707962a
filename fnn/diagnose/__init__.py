"""Diagnosis of training: instruments, examinations, a check of gradients, cost of a program."""

from fnn.diagnose.causes import rank as rank
from fnn.diagnose.confirm import confirm as confirm
from fnn.diagnose.curvature import NoiseScale as NoiseScale
from fnn.diagnose.curvature import Sharpness as Sharpness
from fnn.diagnose.curvature import noise_scale as noise_scale
from fnn.diagnose.curvature import sharpness as sharpness
from fnn.diagnose.curvature_rules import examine_curvature as examine_curvature
from fnn.diagnose.evidence import Evidence as Evidence
from fnn.diagnose.examine import apply_rules as apply_rules
from fnn.diagnose.examine import evidence_of as evidence_of
from fnn.diagnose.examine import examine as examine
from fnn.diagnose.findings import Finding as Finding
from fnn.diagnose.findings import Findings as Findings
from fnn.diagnose.footprint import Footprint as Footprint
from fnn.diagnose.footprint import Proposal as Proposal
from fnn.diagnose.footprint import footprint as footprint
from fnn.diagnose.footprint import propose_layout as propose_layout
from fnn.diagnose.gradients import GradientCheck as GradientCheck
from fnn.diagnose.gradients import check_gradients as check_gradients
from fnn.diagnose.instruments import instruments as instruments
from fnn.diagnose.layer_statistics import HISTOGRAM_EDGES as HISTOGRAM_EDGES
from fnn.diagnose.layers import layer_names as layer_names
from fnn.diagnose.layers import parameter_names as parameter_names
from fnn.diagnose.localize import Location as Location
from fnn.diagnose.localize import localize as localize
from fnn.diagnose.plan import Plan as Plan
from fnn.diagnose.plan import plan as plan
from fnn.diagnose.preflight import preflight as preflight
from fnn.diagnose.profile import Profile as Profile
from fnn.diagnose.profile import profile as profile
from fnn.diagnose.recorded import examine_history as examine_history
from fnn.diagnose.thresholds import Thresholds as Thresholds
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())

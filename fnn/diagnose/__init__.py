"""Diagnosis of training: instruments, examinations, a check of gradients, cost of a program."""

from fnn.diagnose.findings import Finding as Finding
from fnn.diagnose.findings import Findings as Findings
from fnn.diagnose.gradients import GradientCheck as GradientCheck
from fnn.diagnose.gradients import check_gradients as check_gradients
from fnn.diagnose.plan import Plan as Plan
from fnn.diagnose.plan import plan as plan
from fnn.diagnose.preflight import preflight as preflight
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())

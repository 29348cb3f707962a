"""Is it right? Is it well?"""

from fnn.diagnose.gradients import GradientCheck as GradientCheck
from fnn.diagnose.gradients import check_gradients as check_gradients

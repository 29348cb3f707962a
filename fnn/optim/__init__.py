"""How it is minimized: optimizers and schedules, hand-written and functional."""

from fnn.optim.lifting import apply_updates as apply_updates
from fnn.optim.optimizers import adam as adam
from fnn.optim.optimizers import adamw as adamw
from fnn.optim.optimizers import momentum as momentum
from fnn.optim.optimizers import rmsprop as rmsprop
from fnn.optim.optimizers import sgd as sgd
from fnn.optim.projection import project as project
from fnn.optim.schedules import constant as constant
from fnn.optim.schedules import cosine as cosine
from fnn.optim.schedules import one_cycle as one_cycle

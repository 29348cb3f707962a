"""Optimizers, transforms of optimizers, and learning-rate schedules."""

# Optimizers.
from fnn.optim.optimizers.adam import adam as adam
from fnn.optim.optimizers.adam import adamw as adamw
from fnn.optim.optimizers.adam_variants import adabelief as adabelief
from fnn.optim.optimizers.adam_variants import adamax as adamax
from fnn.optim.optimizers.adam_variants import amsgrad as amsgrad
from fnn.optim.optimizers.adam_variants import nadam as nadam
from fnn.optim.optimizers.adam_variants import radam as radam
from fnn.optim.optimizers.adam_variants import yogi as yogi
from fnn.optim.optimizers.adaptive import adadelta as adadelta
from fnn.optim.optimizers.adaptive import adagrad as adagrad
from fnn.optim.optimizers.adaptive import rmsprop as rmsprop
from fnn.optim.optimizers.descent import lion as lion
from fnn.optim.optimizers.descent import momentum as momentum
from fnn.optim.optimizers.descent import rprop as rprop
from fnn.optim.optimizers.descent import sgd as sgd
from fnn.optim.optimizers.factored import adafactor as adafactor
from fnn.optim.optimizers.factored import sm3 as sm3
from fnn.optim.optimizers.layerwise import lamb as lamb
from fnn.optim.optimizers.layerwise import lars as lars
from fnn.optim.optimizers.layerwise import novograd as novograd
from fnn.optim.optimizers.lbfgs import lbfgs as lbfgs
from fnn.optim.optimizers.muon import muon as muon
from fnn.optim.optimizers.prodigy import prodigy as prodigy
from fnn.optim.optimizers.schedule_free import schedule_free_adamw as schedule_free_adamw
from fnn.optim.optimizers.schedule_free import schedule_free_sgd as schedule_free_sgd
from fnn.optim.optimizers.shampoo import shampoo as shampoo
from fnn.optim.optimizers.shampoo import soap as soap
from fnn.optim.optimizers.sophia import sophia as sophia

# Using an optimizer.
from fnn.optim.per_parameter import apply_updates as apply_updates
from fnn.optim.per_parameter import global_norm as global_norm
from fnn.optim.per_parameter import step as step

# Schedules, for any argument `rate`.
from fnn.optim.schedules.base import constant as constant
from fnn.optim.schedules.composed import join as join
from fnn.optim.schedules.composed import table as table
from fnn.optim.schedules.composed import warmup as warmup
from fnn.optim.schedules.composed import wsd as wsd
from fnn.optim.schedules.cosine import cosine as cosine
from fnn.optim.schedules.cosine import cosine_restarts as cosine_restarts
from fnn.optim.schedules.cosine import cyclic as cyclic
from fnn.optim.schedules.cosine import one_cycle as one_cycle
from fnn.optim.schedules.decays import exponential_decay as exponential_decay
from fnn.optim.schedules.decays import inverse_time_decay as inverse_time_decay
from fnn.optim.schedules.decays import linear as linear
from fnn.optim.schedules.decays import piecewise as piecewise
from fnn.optim.schedules.decays import polynomial as polynomial
from fnn.optim.schedules.decays import rsqrt as rsqrt
from fnn.optim.schedules.decays import step_decay as step_decay
from fnn.optim.schedules.decays import swa_schedule as swa_schedule

# Transforms of optimizers, and functions that read or change their states.
from fnn.optim.transforms.accumulation import accumulate as accumulate
from fnn.optim.transforms.averages import averaged_params as averaged_params
from fnn.optim.transforms.averages import ema as ema
from fnn.optim.transforms.averages import ema_warmup as ema_warmup
from fnn.optim.transforms.averages import lookahead as lookahead
from fnn.optim.transforms.chain import chain as chain
from fnn.optim.transforms.gradients import adaptive_clip as adaptive_clip
from fnn.optim.transforms.gradients import centralize as centralize
from fnn.optim.transforms.gradients import clip_by_global_norm as clip_by_global_norm
from fnn.optim.transforms.gradients import clip_by_value as clip_by_value
from fnn.optim.transforms.gradients import noise as noise
from fnn.optim.transforms.half_precision import stochastic_rounding as stochastic_rounding
from fnn.optim.transforms.loss_scale import back_off_scale as back_off_scale
from fnn.optim.transforms.loss_scale import loss_scale as loss_scale
from fnn.optim.transforms.loss_scale import scale_loss as scale_loss
from fnn.optim.transforms.loss_scale import skip_nonfinite as skip_nonfinite
from fnn.optim.transforms.partition import partition as partition
from fnn.optim.transforms.plateau import observe_loss as observe_loss
from fnn.optim.transforms.plateau import plateau as plateau
from fnn.optim.transforms.sam import sam as sam
from fnn.optim.transforms.snapshots import lawa as lawa
from fnn.optim.transforms.snapshots import swa as swa
from fnn.optim.transforms.snapshots import swag as swag
from fnn.optim.transforms.updates import project as project
from fnn.optim.transforms.updates import scale_by_depth as scale_by_depth
from fnn.optim.transforms.updates import weight_decay as weight_decay
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals())

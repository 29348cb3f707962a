"""All families; importing a file enters its families."""

import activations as activations
import attentions as attentions
import convolutions as convolutions
import linear as linear
import losses as losses
import normalizations as normalizations
import pools as pools
import recurrences as recurrences
from harness import FAMILIES as FAMILIES

"""All families, each entered by the file that defines it."""

import linear as linear
from harness import FAMILIES as FAMILIES

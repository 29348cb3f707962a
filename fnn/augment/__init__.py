"""How the data is seen: an augmentation is (key, image) -> image on one image (height, width, channels)."""

from fnn.augment.erasing import cutout as cutout
from fnn.augment.geometry import flip_lr as flip_lr
from fnn.augment.geometry import random_crop as random_crop
from fnn.augment.images import per_image as per_image
from fnn.augment.policies import chain as chain

"""What is learned from: data sets, what is done to them first, and the order of their examples."""

from fnn.data.batches import batches as batches
from fnn.data.cifar import cifar10 as cifar10
from fnn.data.digits import DataSet as DataSet
from fnn.data.digits import digits as digits
from fnn.data.patches import patches as patches
from fnn.data.preprocessing import Fitted as Fitted
from fnn.data.preprocessing import standardize as standardize
from fnn.data.preprocessing import to_float as to_float
from fnn.data.whitening import pca_whiten as pca_whiten
from fnn.data.whitening import zca_whiten as zca_whiten

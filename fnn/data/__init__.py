"""Data sets, preprocessing, splits and the order of the examples."""

from fnn.data import synthetic as synthetic
from fnn.data.batches import batches as batches
from fnn.data.batches import weighted_batches as weighted_batches
from fnn.data.class_weights import class_weights as class_weights
from fnn.data.digest import digest as digest
from fnn.data.overlap import overlap as overlap
from fnn.data.preprocessing import Fitted as Fitted
from fnn.data.preprocessing import normalize as normalize
from fnn.data.preprocessing import standardize as standardize
from fnn.data.preprocessing import to_float as to_float
from fnn.data.sets.cifar import cifar10 as cifar10
from fnn.data.sets.cifar import cifar100 as cifar100
from fnn.data.sets.dataset import DataSet as DataSet
from fnn.data.sets.dataset import Labeled as Labeled
from fnn.data.sets.digits import digits as digits
from fnn.data.sets.image_folder import image_folder as image_folder
from fnn.data.sets.mnist import fashion_mnist as fashion_mnist
from fnn.data.sets.mnist import kmnist as kmnist
from fnn.data.sets.mnist import mnist as mnist
from fnn.data.sets.numpy_files import npy as npy
from fnn.data.sets.numpy_files import npz as npz
from fnn.data.sets.svhn import svhn as svhn
from fnn.data.sets.tables import csv as csv
from fnn.data.split import Folds as Folds
from fnn.data.split import k_fold as k_fold
from fnn.data.split import split as split
from fnn.data.text import Characters as Characters
from fnn.data.text import Utf8 as Utf8
from fnn.data.text import characters as characters
from fnn.data.text import utf8 as utf8
from fnn.data.text import windows as windows
from fnn.data.whiten import patches as patches
from fnn.data.whiten import pca_whiten as pca_whiten
from fnn.data.whiten import zca_whiten as zca_whiten
from fnn.values.show import public_names as _public_names

__all__ = _public_names(globals(), "synthetic")

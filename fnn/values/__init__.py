"""Made values: the results of makers, which record the call that made them."""

from fnn.values.arguments import expect_arguments as expect_arguments
from fnn.values.decorator import Maker as Maker
from fnn.values.decorator import is_maker as is_maker
from fnn.values.decorator import maker as maker
from fnn.values.decorator import signature_of as signature_of
from fnn.values.leaves import Variable as Variable
from fnn.values.made import Made as Made
from fnn.values.made import expect_leaves as expect_leaves
from fnn.values.show import reference as reference
from fnn.values.show import shown as shown
from fnn.values.structure import Same as Same
from fnn.values.structure import objects_of as objects_of
from fnn.values.variables import assign as assign
from fnn.values.variables import is_open as is_open
from fnn.values.variables import variables_of as variables_of

from hensa.kernels._baseline import Column as Column
from hensa.kernels._baseline import Scorer as Scorer
from hensa.kernels._baseline import merge as merge
from hensa.kernels._baseline import moments as moments

from hensa.kernels._baseline import *  # noqa: F403

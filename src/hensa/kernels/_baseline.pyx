"""The kernels for any CPU of this architecture."""
include "columns.pxi"
include "moments.pxi"
include "score.pxi"

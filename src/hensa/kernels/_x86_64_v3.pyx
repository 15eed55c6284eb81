"""The kernels for x86-64-v3 CPUs (AVX2; since about 2013)."""
include "columns.pxi"
include "moments.pxi"
include "score.pxi"

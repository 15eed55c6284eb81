"""The kernels for x86-64-v4 CPUs (AVX-512)."""
include "columns.pxi"
include "moments.pxi"
include "score.pxi"

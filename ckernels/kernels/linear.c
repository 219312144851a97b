/* linear.c - kernels: activation quantiser, panels, products, dequantisers. Compiled once per ISA variant. */
#include "kernels.h"

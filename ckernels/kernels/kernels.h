/* kernels.h - the dispatch table: one function pointer per kernel, one table per ISA variant.
 *
 * A family declares its kernels as a list X(return type, name, (arguments)); the struct, the externs and the list of names that
 * zl_kernel_name() gives are all made from it, so a kernel cannot be forgotten in one of them. Each family's file is compiled once
 * per variant with ZL_FN(name) giving every variant its own symbols; kernels/table.c (also once per variant) fills the table.
 */
#ifndef ZL_KERNELS_H
#define ZL_KERNELS_H
#include <stddef.h>
#include <stdint.h>
#include "linear.h"     /* ZL_KERNELS_LINEAR(X)    activation quantiser, panels, products, dequantisers */
#include "rows.h"       /* ZL_KERNELS_ROWS(X)      norms, activations, softmax, rope, top-k             */
#include "attention.h"  /* ZL_KERNELS_ATTENTION(X) spans over cache pages                                */
#include "probe.h"      /* ZL_KERNELS_PROBE(X)     the machine's ceilings                                */
#include "quantize.h"   /* ZL_KERNELS_QUANTIZE(X)  floats to quant blocks                                */
#include "state.h"      /* ZL_KERNELS_STATE(X)     short convolution, scans                              */

#define ZL_KERNELS_SHARED(X) ZL_KERNELS_LINEAR(X) ZL_KERNELS_ROWS(X) ZL_KERNELS_ATTENTION(X) ZL_KERNELS_PROBE(X) ZL_KERNELS_QUANTIZE(X) ZL_KERNELS_STATE(X)
#define ZL_KERNELS(X) ZL_KERNELS_SHARED(X) ZL_KERNELS_FLOAT(X)

typedef struct zl_kernels {
    const char *isa;
    int lanes; /* L of simd.h: rows interleaved in a panel                             */
    int group; /* ZL_GROUP of simd_int.h: rows of quantised x interleaved, see linear.h */
    int float_group; /* the same of x for float weights                                  */
    int bf16;  /* it has the instruction for products in bf16                             */
    int widens_q6_k; /* ZL_WIDENS_Q6_K of simd_int.h                                      */
#define ZL_MEMBER(ret, name, args) ret (*name) args;
    ZL_KERNELS(ZL_MEMBER)
#undef ZL_MEMBER
} zl_kernels;

#ifdef ZL_ISA /* inside a kernel file: prototypes, so that a definition that departs from its list does not compile */
#include "simd.h"
#define ZL_PROTOTYPE(ret, name, args) ret ZL_FN(name) args;
ZL_KERNELS_SHARED(ZL_PROTOTYPE)
#undef ZL_PROTOTYPE
#define ZL_PROTOTYPE(ret, name, args) ret ZL_FLOAT_FN(name) args;
ZL_KERNELS_FLOAT(ZL_PROTOTYPE)
#undef ZL_PROTOTYPE
#endif
#endif

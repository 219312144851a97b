/* table.c - the dispatch table of one ISA variant, made from the kernels' lists. Compiled once per variant.
 *
 * A kernel that is listed but not written is a link error here, in every variant.
 */
#include "kernels.h"
#include "simd_int.h"

#define ZL_STRING_(x) #x
#define ZL_STRING(x) ZL_STRING_(x)

extern const zl_kernels ZL_CAT(zl_kernels, ZL_ISA);
const zl_kernels ZL_CAT(zl_kernels, ZL_ISA) = {
    .isa = ZL_STRING(ZL_ISA),
    .lanes = L,
    .group = ZL_GROUP,
    .float_group = ZL_FLOAT_GROUP,
    .widens_q6_k = ZL_WIDENS_Q6_K,
#if defined(ZL_ISA_avx512bf16)
    .bf16 = 1,
#endif
#define ZL_ENTRY(ret, name, args) .name = ZL_FN(name),
    ZL_KERNELS_SHARED(ZL_ENTRY)
#undef ZL_ENTRY
#define ZL_ENTRY(ret, name, args) .name = ZL_FLOAT_FN(name),
    ZL_KERNELS_FLOAT(ZL_ENTRY)
#undef ZL_ENTRY
};

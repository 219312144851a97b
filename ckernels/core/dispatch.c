/* dispatch.c - which ISA variants there are, which this CPU runs, and the tables that are searched by number or name.
 *
 * The list of variants in this build comes from the build (zl_variants.h), best first. Detection asks the CPU and the operating
 * system together: a CPU with AVX under a kernel that does not save its registers has none.
 */
#include "ctx.h"
#include "zl_variants.h"
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#endif

/* ---- ISA variants ---------------------------------------------------------------------------------------------------------- */

#define DECLARE(name) extern const zl_kernels zl_kernels_##name;
ZL_VARIANTS(DECLARE)
#define ENTRY(name) &zl_kernels_##name,
static const zl_kernels *const variants[] = {ZL_VARIANTS(ENTRY)};
enum { N_VARIANTS = sizeof variants / sizeof variants[0] };

/* Every variant that exists on some platform, so that "neon" on x86 is told apart from a misspelling. */
static const char *const known[] = {"avx512bf16", "avx512", "avx2", "dotprod", "neon", "generic"};

/* What a variant needs from the CPU; said in the error text. */
static const char *needs(const char *isa) {
    if (!strcmp(isa, "avx512bf16")) return "x86-64 with AVX-512 F, BW, DQ, VL, VNNI and BF16";
    if (!strcmp(isa, "avx512")) return "x86-64 with AVX-512 F, BW, DQ, VL and VNNI";
    if (!strcmp(isa, "avx2")) return "x86-64 with AVX2, FMA and F16C";
    if (!strcmp(isa, "dotprod")) return "aarch64 with the dot product instructions";
    if (!strcmp(isa, "neon")) return "aarch64";
    return "any CPU";
}

static int cpu_runs(const char *isa) {
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    __builtin_cpu_init();
    __get_cpuid(1, &a, &b, &c, &d);
    /* bit_F16C by hand: not every compiler's __builtin_cpu_supports knows the name; its registers are AVX's */
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (c & bit_F16C);
    if (!strcmp(isa, "avx2")) return avx2;
#ifdef ZL_EMULATE_AVX512
    if (!strcmp(isa, "avx512") || !strcmp(isa, "avx512bf16")) return avx2; /* a build for tests: tests/emulated_avx512.h */
#endif
    if (!strcmp(isa, "avx512bf16")) return cpu_runs("avx512") && __builtin_cpu_supports("avx512bf16");
    if (!strcmp(isa, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
    if (!strcmp(isa, "neon")) return 1; /* part of the architecture's baseline */
#if defined(__linux__)
    if (!strcmp(isa, "dotprod")) return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
#endif
    return !strcmp(isa, "generic");
}

int zl_isa_count(void) { return N_VARIANTS; }
const char *zl_isa_name(int i) { return i >= 0 && i < N_VARIANTS ? variants[i]->isa : NULL; }
int zl_isa_bf16(int i) { return i >= 0 && i < N_VARIANTS && variants[i]->bf16; }
int zl_isa_usable(int i) { return i >= 0 && i < N_VARIANTS && cpu_runs(variants[i]->isa); }

int zl_find_variant(const char *isa, const zl_kernels **out) {
    int best = !isa || !strcmp(isa, "auto");
    const char *first = NULL; /* the best that this CPU runs: `generic` is in every build */
    for (int i = 0; i < N_VARIANTS; i++) {
        int usable = zl_isa_usable(i);
        if (usable && !first) first = variants[i]->isa;
        if (usable && (best || !strcmp(isa, variants[i]->isa))) {
            *out = variants[i];
            return ZL_OK;
        }
    }
    for (size_t i = 0; isa && i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(isa, known[i]))
            return zl_fail(ZL_E_ISA_CPU, "ISA variant '%s' needs %s; the best that this CPU runs is '%s'", isa, needs(isa), first);
    return zl_fail(ZL_E_ISA, "unknown ISA variant '%.64s'", isa);
}

/* ---- kernels --------------------------------------------------------------------------------------------------------------- */

#define NAME(ret, name, args) #name,
static const char *const kernel_names[] = {ZL_KERNELS(NAME) NULL};
enum { N_KERNELS = sizeof kernel_names / sizeof kernel_names[0] - 1 };

int zl_kernel_count(void) { return N_KERNELS; }
const char *zl_kernel_name(int i) { return i >= 0 && i < N_KERNELS ? kernel_names[i] : NULL; }
/* A variant compiles every kernel from the same source, so today the answer is one name for all of them. */
const char *zl_kernel_variant(const zl_ctx *ctx, int i) { return ctx && zl_kernel_name(i) ? ctx->kernels->isa : NULL; }

/* ---- opcodes --------------------------------------------------------------------------------------------------------------- */

const zl_op_def *zl_op_find(int code) {
    static const zl_op_def *const families[] = {zl_ops_rows, zl_ops_linear, zl_ops_attention, zl_ops_state, zl_ops_experts};
    if (code <= 0) return NULL; /* 0 ends a table */
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++)
        for (const zl_op_def *d = families[f]; d->code; d++)
            if (d->code == code) return d;
    return NULL;
}

/* probe.h - the list of kernels that measure the machine and not a model: what memory gives, what the arithmetic units give.
 *
 * A share of the machine's limit needs the limit, and on a shared machine it moves with the neighbours: so it is measured on the spot, by
 * core/probe.c. Like the kernels they are compared with, the probes are compiled once per variant.
 */
#ifndef ZL_KERNELS_PROBE_H
#define ZL_KERNELS_PROBE_H
#include <stdint.h>

enum { ZL_PROBE_CHAINS = 12 }; /* independent accumulators: at least latency times throughput of the units */

#define ZL_KERNELS_PROBE(X)                                                                                                       \
    /* (probe.c) the sum of n words (a multiple of 32), modulo 2^64, read as four streams */                                      \
    X(uint64_t, probe_read, (const uint64_t *p, int64_t n))                                                                       \
    /* `steps` products of 4 L codes by 4 L int8 on each of the chains: a lane of a chain ends as steps * 4 * code * q, modulo    \
     * 2^32; returns the sum of all lanes, modulo 2^32 */                                                                         \
    X(uint32_t, probe_int8, (int64_t steps, int code, int q))                                                                     \
    /* the same with fma: a lane of a chain ends as steps * a * b, rounded after each addition; returns the sum of all lanes */   \
    X(float, probe_f32, (int64_t steps, float a, float b))
#endif

/* rows_scan.h - what the kernels of rows_scan.c and core/scan.c share: the fixed point of masses and the buckets of keys.
 *
 * A candidate's mass is exp(x - best) in fixed point, an integer: sums of integers are exact in any order, so what is kept depends on
 * neither lanes nor blocks. best itself has 2^ZL_MASS_BITS; a mass that rounds to nought (28.5 nats under the best) counts as none.
 *
 * Keys of a sample of the row fall into buckets by their distance from the largest: bucket 0 holds the best, the last what is as far away
 * as the sample's smallest or, beyond ZL_SPAN, everything. They only guide a search.
 */
#ifndef ZL_ROWS_SCAN_H
#define ZL_ROWS_SCAN_H

#define ZL_MASS_BITS 40
#define ZL_BUCKETS 2048
#define ZL_SPAN 28.5f /* ln 2^41 = 28.4 */
#define ZL_SAMPLED 64 /* elements side by side in a sample */
#endif

/* The one pass over the parameters, compiled: everything an observation needs of one element is
 * computed while its tile lies in the first-level cache, so that memory is read once.
 *
 * The bytes moved are theta, its snapshot and the gradient read, and the snapshot written. The work
 * is cut into chunks whose sums are added up in their order, so the results don't depend on the
 * number of threads. Elements are worked on in float32 (float64 for float64 parameters), sums are
 * kept in float64. Where float32 would overflow or underflow, the tile is done again in float64. A
 * job may ask for float64 throughout: all but the importances is precise then.
 *
 * The file includes itself once for each instruction set it is compiled for. It needs nothing but
 * libm, and no header of Python or PyTorch; trace_core/kernel/plan.py is its only caller and holds
 * the twins of the structures below.
 */
#ifndef PASS

#include <math.h>
#include <stdint.h>
#include <string.h>

#define KERNEL_VERSION 2
#define TILE 1024 /* elements */
#define BINS 515
#define LOWEST_OCTAVE (-96)
#define DEPTH 4 /* nodes that a tensor lies in: itself, its layer, its block, the model */
/* Float32 holds the squares of what is between: a mean from SMALL, a sum up to LARGE. */
#define SMALL 0x1p-50
#define LARGE 0x1p62

enum { FLOAT32, FLOAT64, BFLOAT16, FLOAT16 };
enum { ABS_THETA, SQ_THETA, ABS_DELTA, SQ_DELTA, THETA_DELTA, RATIO, ZEROS, SYMMETRIC,
       C, SQ_C, C_LOG_C, SUMS };

typedef struct {
    int64_t size;         /* elements */
    int64_t dtype;        /* of theta and its snapshot */
    int64_t gradient_dtype;
    int64_t first_chunk, last_chunk;
    int64_t values;       /* where its importances go, -1: nowhere */
} tensor_t;

typedef struct {
    int64_t tensor, start, stop;
} chunk_t;

/* What differs from one observation to the next; the addresses of the tensors follow it. */
typedef struct {
    int64_t by_theta, by_gradient; /* the factors of the importance */
    int64_t refresh;               /* whether the snapshot becomes theta after the step */
    int64_t next;                  /* the next chunk that nobody has taken */
    int64_t histogram;             /* whether one is taken; otherwise what follows isn't written */
    double *rows;                  /* (tensors, 1 + SUMS + origins) */
    int64_t *filled;               /* (tensors): filled bins */
    int16_t *bins;
    int64_t *counts;
    float *sums;
    double *nodes; /* (node_count, 2) */
    void *pointers[]; /* (3 + origins, tensors): theta after, gradient, snapshot, origins */
} call_t;

typedef struct {
    int64_t tensor_count, chunk_count, origins, level;
    int64_t precise; /* whether float32 parameters too are worked on in float64 */
    call_t *call;
    const tensor_t *tensors;
    const chunk_t *chunks;
    double *partial; /* (chunks, SUMS + origins) */
    double *table;   /* (chunks, BINS, 2): sum and count of each bin */
    double *values;  /* importances of small tensors */
    /* The small nodes. A group of them is sorted once: its tensors are members[groups[2g]] up to,
     * not including, members[groups[2g + 1]]; each lies in the nodes node_of[tensor * DEPTH ...],
     * -1 for none. */
    int64_t group_count, node_count;
    const int64_t *groups, *members, *node_of, *node_size;
    double *work; /* (node_count, 4) */
    void *items, *spare;
} job_t;

/* Rounded to float32 from a polynomial through the Chebyshev nodes of [sqrt(1/2) - 1, sqrt(2) - 1]:
 * log1p(f)/f there to 1e-7. */
static const float LOG1P[] = {0.99999994f, -0.50000376f, 0.33334607f, -0.24968907f,
                              0.19913349f, -0.17278206f, 0.16126248f, -0.09895351f};

static const float ONES[TILE] = {[0 ... TILE - 1] = 1.0f};

static int64_t bytes_of(int64_t dtype) { return dtype == FLOAT64 ? 8 : dtype == FLOAT32 ? 4 : 2; }

static float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff, bits;
    float value;
    if (magnitude >= 0x7c00) {
        bits = 0x7f800000u | magnitude << 13;
    } else {
        bits = magnitude << 13;
        memcpy(&value, &bits, 4);
        value *= 0x1p112f;
        memcpy(&bits, &value, 4);
    }
    bits |= sign;
    memcpy(&value, &bits, 4);
    return value;
}

static double element(const void *data, int64_t dtype, int64_t at) {
    if (dtype == FLOAT64) return ((const double *)data)[at];
    if (dtype == FLOAT32) return ((const float *)data)[at];
    if (dtype == FLOAT16) return from_half(((const uint16_t *)data)[at]);
    uint32_t bits = (uint32_t)((const uint16_t *)data)[at] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* `bin_of` of histogram.py, on the bits of a double. */
static int64_t bin_of(double value) {
    static const uint64_t quarter[] = {0x306fe0a31b715, 0x6a09e667f3bcd, 0xae89f995ad3ad};
    uint64_t bits;
    memcpy(&bits, &value, 8);
    bits &= 0x7fffffffffffffff;
    if (!bits) return 0;
    uint64_t mantissa = bits & 0xfffffffffffff;
    int64_t code = (int64_t)(bits >> 52) * 4;
    for (int i = 0; i < 3; i++) code += mantissa >= quarter[i];
    code += 2 - 4 * (1023 + LOWEST_OCTAVE);
    return code < 1 ? 1 : code > BINS - 1 ? BINS - 1 : code;
}

/* Elements one by one in double: for float64 parameters, and where float32 is too narrow. */
static void add_exactly(const job_t *job, const tensor_t *tensor, const void *before,
                        const void *after, const void *gradient, int64_t start, int64_t stop,
                        double *sums, double *table, double *values) {
    double s[SUMS] = {0};
    for (int64_t i = start; i < stop; i++) {
        double theta = element(before, tensor->dtype, i);
        double updated = element(after, tensor->dtype, i);
        double delta = updated - theta, size = fabs(theta), moved = fabs(delta);
        double both = size + fabs(updated);
        double c = fabs((job->call->by_theta ? theta : 1.0) *
                        (job->call->by_gradient ? element(gradient, tensor->gradient_dtype, i) : 1.0));
        s[ABS_THETA] += size;
        s[SQ_THETA] += theta * theta;
        s[ABS_DELTA] += moved;
        s[SQ_DELTA] += delta * delta;
        s[THETA_DELTA] += theta * delta;
        s[RATIO] += theta == 0.0 ? 0.0 : moved / size;
        s[ZEROS] += theta == 0.0;
        s[SYMMETRIC] += both == 0.0 ? 0.0 : moved / both;
        s[C] += c;
        s[SQ_C] += c * c;
        s[C_LOG_C] += c == 0.0 ? 0.0 : c * log(c);
        if (table) {
            double *bin = table + 2 * bin_of(c);
            bin[0] += c;
            bin[1] += 1.0;
            if (values) values[i] = c;
        }
    }
    for (int k = 0; k < SUMS; k++) sums[k] += s[k];
}

typedef double pair_t __attribute__((vector_size(16), aligned(8), may_alias));
#define INLINE static inline __attribute__((always_inline))

/* Vectors are as wide as the instruction set's registers: wider ones are taken apart badly. */
#define PASS pass_baseline
#define NAME(name) name##_baseline
#define WIDTH 16
#include "kernel.c"
#undef PASS
#undef NAME
#undef WIDTH

#if defined(__x86_64__)
#define PASS pass_avx2
#define NAME(name) name##_avx2
#define WIDTH 32
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "kernel.c"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef PASS
#undef NAME
#undef WIDTH

#define PASS pass_avx512
#define NAME(name) name##_avx512
#define WIDTH 64
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")
#endif
#include "kernel.c"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#define EXPORT __attribute__((visibility("default")))

EXPORT int64_t tracerank_version(void) { return KERNEL_VERSION; }

/* The snapshots become what the tensors are. */
EXPORT void tracerank_renew(const job_t *job) {
    int64_t n = job->tensor_count;
    for (int64_t t = 0; t < n; t++)
        memcpy(job->call->pointers[2 * n + t], job->call->pointers[t],
               job->tensors[t].size * bytes_of(job->tensors[t].dtype));
}

/* Work off chunks until none is left; several threads may do so at once. `level` is the widest
 * instruction set that may be used: 0 baseline, 1 AVX2 with FMA, 2 AVX-512 (F, DQ, BW, VL). */
EXPORT void tracerank_pass(const job_t *job) {
    for (;;) {
        int64_t chunk = __atomic_fetch_add(&job->call->next, 1, __ATOMIC_RELAXED);
        if (chunk >= job->chunk_count) return;
#if defined(__x86_64__)
        if (job->level == 2) {
            pass_avx512(job, chunk);
            continue;
        }
        if (job->level == 1) {
            pass_avx2(job, chunk);
            continue;
        }
#endif
        pass_baseline(job, chunk);
    }
}

/* Add up the chunks' sums. */
static void add_up(const job_t *job) {
    int64_t width = SUMS + job->origins;
    double *row = job->call->rows;
    for (int64_t t = 0; t < job->tensor_count; t++, row += 1 + width) {
        const tensor_t *tensor = job->tensors + t;
        row[0] = (double)tensor->size;
        for (int64_t k = 0; k < width; k++) row[1 + k] = 0.0;
        for (int64_t chunk = tensor->first_chunk; chunk < tensor->last_chunk; chunk++)
            for (int64_t k = 0; k < width; k++) row[1 + k] += job->partial[chunk * width + k];
    }
}

/* Gather the filled bins, tensor after tensor; returns how many there are. */
static int64_t gather_bins(const job_t *job) {
    const call_t *call = job->call;
    int64_t entries = 0;
    for (int64_t t = 0; t < job->tensor_count; t++) {
        const tensor_t *tensor = job->tensors + t;
        int64_t before = entries;
        double *first = job->table + tensor->first_chunk * 2 * BINS;
        for (int64_t chunk = tensor->first_chunk + 1; chunk < tensor->last_chunk; chunk++)
            for (int64_t k = 0; k < 2 * BINS; k++) first[k] += job->table[chunk * 2 * BINS + k];
        for (int64_t bin = 0; bin < BINS; bin++) {
            if (first[2 * bin + 1] == 0.0) continue;
            call->bins[entries] = (int16_t)bin;
            call->counts[entries] = (int64_t)first[2 * bin + 1];
            call->sums[entries++] = (float)first[2 * bin];
        }
        call->filled[t] = entries - before;
    }
    return entries;
}

typedef struct {
    uint64_t bits; /* of an importance: their order is that of the importances */
    int64_t tensor;
} item_t;

/* Least significant digit first, by the byte; a few are sorted by insertion. */
static void sort(item_t *items, item_t *spare, int64_t n) {
    if (n <= 32) {
        for (int64_t i = 1; i < n; i++) {
            item_t item = items[i];
            int64_t j = i;
            for (; j > 0 && items[j - 1].bits > item.bits; j--) items[j] = items[j - 1];
            items[j] = item;
        }
        return;
    }
    int64_t counts[8][256] = {{0}};
    for (int64_t i = 0; i < n; i++)
        for (int d = 0; d < 8; d++) counts[d][items[i].bits >> 8 * d & 255]++;
    item_t *from = items, *to = spare;
    for (int d = 0; d < 8; d++) {
        if (counts[d][from[0].bits >> 8 * d & 255] == n) continue;
        int64_t start = 0;
        for (int b = 0; b < 256; b++) {
            int64_t here = counts[d][b];
            counts[d][b] = start;
            start += here;
        }
        for (int64_t i = 0; i < n; i++) to[counts[d][from[i].bits >> 8 * d & 255]++] = from[i];
        item_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != items) memcpy(items, from, n * sizeof *items);
}

/* `exact` of concentration.py for the small nodes. */
static void small_nodes(const job_t *job) {
    int64_t count = job->node_count;
    double *mass = job->work, *weighted = mass + count, *top = mass + 2 * count;
    int64_t *seen = (int64_t *)(mass + 3 * count);
    item_t *items = job->items;
    memset(job->work, 0, 4 * count * sizeof *job->work);
    for (int64_t g = 0; g < job->group_count; g++) {
        int64_t n = 0;
        for (int64_t m = job->groups[2 * g]; m < job->groups[2 * g + 1]; m++) {
            const tensor_t *tensor = job->tensors + job->members[m];
            for (int64_t i = 0; i < tensor->size; i++, n++) {
                memcpy(&items[n].bits, job->values + tensor->values + i, 8);
                items[n].tensor = job->members[m];
            }
        }
        sort(items, job->spare, n);
        for (int64_t i = 0; i < n; i++) {
            double c;
            memcpy(&c, &items[i].bits, 8);
            const int64_t *nodes = job->node_of + items[i].tensor * DEPTH;
            for (int k = 0; k < DEPTH; k++) {
                if (nodes[k] < 0) continue;
                int64_t node = nodes[k], size = job->node_size[node], rank = seen[node]++;
                mass[node] += c;
                weighted[node] += (double)(2 * rank + 1 - size) * c;
                if (rank >= size - (size + 99) / 100) top[node] += c;
            }
        }
    }
    for (int64_t node = 0; node < count; node++) {
        int defined = seen[node] > 1 && mass[node] > 0.0 && mass[node] < INFINITY;
        job->call->nodes[2 * node] = defined ? weighted[node] / ((double)seen[node] * mass[node]) : NAN;
        job->call->nodes[2 * node + 1] = defined ? top[node] / mass[node] : NAN;
    }
}

/* After the pass: the result; returns how many bins are filled. */
EXPORT int64_t tracerank_finish(const job_t *job) {
    add_up(job);
    if (!job->call->histogram) return 0;
    small_nodes(job);
    return gather_bins(job);
}

EXPORT int64_t tracerank_observe(const job_t *job) {
    tracerank_pass(job);
    return tracerank_finish(job);
}

#else /* ---- for one instruction set, whose registers hold WIDTH bytes ---- */

#define LANES (WIDTH / 4)
#define real_t NAME(real_t)
#define bits_t NAME(bits_t)
#define bins_t NAME(bins_t)
#define half_t NAME(half_t)
#define sum_t NAME(sum_t)
#define mask_t NAME(mask_t)
typedef float real_t __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef int32_t bits_t __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef int16_t bins_t __attribute__((vector_size(WIDTH / 2), aligned(2), may_alias));
typedef float half_t __attribute__((vector_size(WIDTH / 2), aligned(4), may_alias));
typedef double sum_t __attribute__((vector_size(WIDTH), aligned(8), may_alias));
typedef int64_t mask_t __attribute__((vector_size(WIDTH), aligned(8), may_alias));
#define WIDE(half) __builtin_convertvector(half, sum_t)
#define SIZE(wide) ((sum_t)((mask_t)(wide) & 0x7fffffffffffffff))
#undef HALF
#if WIDTH == 64
#define HALF(v, h) \
    __builtin_shufflevector(v, v, 8 * h, 8 * h + 1, 8 * h + 2, 8 * h + 3, 8 * h + 4, 8 * h + 5, \
                            8 * h + 6, 8 * h + 7)
#elif WIDTH == 32
#define HALF(v, h) __builtin_shufflevector(v, v, 4 * h, 4 * h + 1, 4 * h + 2, 4 * h + 3)
#else
#define HALF(v, h) __builtin_shufflevector(v, v, 2 * h, 2 * h + 1)
#endif

/* Point at a tile's elements as float32, converted into `tile` where they are of 16 bits, with zeros
 * up to `padded`. */
static const float *NAME(load)(const void *data, int64_t dtype, int64_t start, int64_t n,
                               int64_t padded, float *tile) {
    if (dtype == FLOAT32) {
        const float *direct = (const float *)data + start;
        if (n == padded) return direct;
        memcpy(tile, direct, n * sizeof *tile);
    } else if (dtype == BFLOAT16) {
        const uint16_t *brief = (const uint16_t *)data + start;
        for (int64_t i = 0; i < n; i++) ((uint32_t *)tile)[i] = (uint32_t)brief[i] << 16;
    } else {
        const uint16_t *half = (const uint16_t *)data + start;
        for (int64_t i = 0; i < n; i++) tile[i] = from_half(half[i]);
    }
    for (int64_t i = n; i < padded; i++) tile[i] = 0.0f;
    return tile;
}

/* The importances of LANES elements at `i` and their logarithms; with a histogram they and their bins
 * are written down. */
INLINE void NAME(importances)(const float *first, const float *second, int64_t i, real_t *absolute_c,
                              real_t *log_c, float *c, int16_t *bins, int histogram) {
    real_t a = *(const real_t *)(first + i), b = *(const real_t *)(second + i);
    /* ln c = e ln 2 + ln m, m in [sqrt(1/2), sqrt(2)) */
    bits_t code = (bits_t)(a * b) & 0x7fffffff;
    bits_t exponent = (code - 0x3f3504f3) >> 23;
    real_t f = (real_t)(code - (exponent << 23)) - 1.0f;
    real_t log1p = f * LOG1P[7] + LOG1P[6];
    log1p = log1p * f + LOG1P[5];
    log1p = log1p * f + LOG1P[4];
    log1p = log1p * f + LOG1P[3];
    log1p = log1p * f + LOG1P[2];
    log1p = log1p * f + LOG1P[1];
    log1p = log1p * f + LOG1P[0];
    *log_c = __builtin_convertvector(exponent, real_t) * 0.693147181f + f * log1p;
    if (histogram) {
        bits_t mantissa = code & 0x7fffff;
        bits_t bin = (code >> 23) * 4 - (mantissa >= 0x1837f1) - (mantissa >= 0x3504f4) -
                     (mantissa >= 0x5744fd) + (2 - 4 * (127 + LOWEST_OCTAVE));
        bits_t low = bin < 1, high = bin > BINS - 1, none = code == 0;
        bin = (bin & ~low & ~high) | (low & 1) | (high & (BINS - 1));
        *(bins_t *)(bins + i) = __builtin_convertvector(bin & ~none, bins_t);
        *(real_t *)(c + i) = (real_t)code;
    }
    *absolute_c = (real_t)code;
}

/* Add LANES elements at `i` to the terms that are summed. */
INLINE void NAME(elements)(const float *theta, const float *updated, const float *first,
                           const float *second, int64_t i, real_t *terms, bits_t *zeros, float *c,
                           int16_t *bins, int histogram) {
    real_t x = *(const real_t *)(theta + i), y = *(const real_t *)(updated + i), absolute_c, log_c;
    real_t delta = y - x;
    bits_t at_zero = x == 0.0f;
    *zeros -= at_zero;
    real_t size = (real_t)((bits_t)x & 0x7fffffff);
    real_t moved = (real_t)((bits_t)delta & 0x7fffffff);
    real_t both = size + (real_t)((bits_t)y & 0x7fffffff);
    /* A denominator of 0 is made 1; what comes of it is masked away, or 0. */
    real_t ratio = moved / (real_t)((bits_t)size | (at_zero & 0x3f800000));
    real_t symmetric = moved / (real_t)((bits_t)both | ((both == 0.0f) & 0x3f800000));
    NAME(importances)(first, second, i, &absolute_c, &log_c, c, bins, histogram);
    terms[ABS_THETA] += size;
    terms[SQ_THETA] += size * size;
    terms[ABS_DELTA] += moved;
    terms[SQ_DELTA] += moved * moved;
    terms[THETA_DELTA] += x * delta;
    terms[RATIO] += (real_t)((bits_t)ratio & ~at_zero);
    terms[SYMMETRIC] += symmetric;
    terms[C] += absolute_c;
    terms[SQ_C] += absolute_c * absolute_c;
    terms[C_LOG_C] += absolute_c * log_c;
}

/* Add LANES / 2 elements in float64 to the sums. */
INLINE void NAME(precisely)(const half_t *theta, const half_t *updated, const half_t *c,
                            const half_t *logs, sum_t *sums) {
    sum_t x = WIDE(*theta), y = WIDE(*updated), absolute_c = WIDE(*c), log_c = WIDE(*logs);
    sum_t delta = y - x, size = SIZE(x), moved = SIZE(delta), both = size + SIZE(y);
    mask_t at_zero = x == 0.0;
    sum_t ratio = moved / (sum_t)((mask_t)size | (at_zero & 0x3ff0000000000000));
    sum_t symmetric = moved / (sum_t)((mask_t)both | ((both == 0.0) & 0x3ff0000000000000));
    sums[ABS_THETA] += size;
    sums[SQ_THETA] += size * size;
    sums[ABS_DELTA] += moved;
    sums[SQ_DELTA] += moved * moved;
    sums[THETA_DELTA] += x * delta;
    sums[RATIO] += (sum_t)((mask_t)ratio & ~at_zero);
    sums[ZEROS] += (sum_t)(at_zero & 0x3ff0000000000000);
    sums[SYMMETRIC] += symmetric;
    sums[C] += absolute_c;
    sums[SQ_C] += absolute_c * absolute_c;
    sums[C_LOG_C] += absolute_c * log_c;
}

/* `tile`, in float64. */
INLINE void NAME(precise_tile)(const float *theta, const float *updated, const float *first,
                               const float *second, int64_t n, sum_t *sums, float *c, int16_t *bins,
                               int histogram) {
    sum_t s[SUMS] = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        real_t absolute_c, log_c;
        NAME(importances)(first, second, i, &absolute_c, &log_c, c, bins, histogram);
        for (int h = 0; h < 2; h++) {
            int64_t at = i + h * LANES / 2;
            NAME(precisely)((const half_t *)(theta + at), (const half_t *)(updated + at),
                            (const half_t *)&absolute_c + h, (const half_t *)&log_c + h, s);
        }
    }
    memcpy(sums, s, sizeof s);
}

/* Sums of a tile of n elements (a multiple of 2 LANES), every four of which are added up in float32;
 * `c` and `bins` take the importances and their bins. */
INLINE void NAME(tile)(const float *theta, const float *updated, const float *first,
                       const float *second, int64_t n, sum_t *sums, float *c, int16_t *bins,
                       int histogram) {
    sum_t s[SUMS] = {0};
    bits_t zeros = {0};
    for (int64_t i = 0; i < n; i += 2 * LANES) {
        real_t terms[SUMS] = {0};
        NAME(elements)(theta, updated, first, second, i, terms, &zeros, c, bins, histogram);
        NAME(elements)(theta, updated, first, second, i + LANES, terms, &zeros, c, bins,
                       histogram);
        for (int k = 0; k < SUMS; k++)
            if (k != ZEROS) s[k] += WIDE(HALF(terms[k], 0) + HALF(terms[k], 1));
    }
    for (int k = 0; k < LANES; k++) s[ZEROS][0] += zeros[k];
    memcpy(sums, s, sizeof s);
}

INLINE double NAME(across)(const sum_t *lanes) {
    double total = 0.0;
    for (int k = 0; k < LANES / 2; k++) total += (*lanes)[k];
    return total;
}

/* Whether float32 is wide enough for the sums of a tile of n elements: nothing overflowed, and
 * nothing that underflowed could show in them. */
static int NAME(fits)(const sum_t *sums, const float *first, const float *second, int64_t n) {
    const double low = (double)n * SMALL, high = LARGE;
    double size = NAME(across)(sums + ABS_THETA), moved = NAME(across)(sums + ABS_DELTA);
    double ratio = NAME(across)(sums + RATIO), mass = NAME(across)(sums + C);
    /* Comparisons with what is not a number fail. */
    if (!(size <= high && moved <= high && ratio <= 0x1p127 && mass <= high)) return 0;
    if ((size > 0.0 && size < low) || (moved > 0.0 && moved < low)) return 0;
    if (moved > 0.0 && size > 0.0 && ratio < low) return 0;
    if (mass > 0.0) return mass >= low;
    int lost = 0;
    for (int64_t i = 0; i < n; i++) lost |= (first[i] != 0.0f) & (second[i] != 0.0f);
    return !lost;
}

/* Squared distance of n elements from an origin. */
static double NAME(distance)(const void *after, const void *from, int64_t dtype, int64_t start,
                             int64_t n) {
    double total = 0.0;
    if (dtype != FLOAT32) {
        for (int64_t i = start; i < start + n; i++) {
            double d = element(after, dtype, i) - element(from, dtype, i);
            total += d * d;
        }
        return total;
    }
    const float *updated = (const float *)after + start, *origin = (const float *)from + start;
    sum_t low = {0}, high = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        sum_t a = WIDE(*(const half_t *)(updated + i)) - WIDE(*(const half_t *)(origin + i));
        sum_t b = WIDE(*(const half_t *)(updated + i + LANES / 2)) - WIDE(*(const half_t *)(origin + i + LANES / 2));
        low += a * a;
        high += b * b;
    }
    for (; i < n; i++) total += ((double)updated[i] - origin[i]) * ((double)updated[i] - origin[i]);
    low += high;
    return total + NAME(across)(&low);
}

static void PASS(const job_t *job, int64_t index) {
    const chunk_t *chunk = job->chunks + index;
    const tensor_t *tensor = job->tensors + chunk->tensor;
    const call_t *call = job->call;
    void *const *at = call->pointers + chunk->tensor;
    int64_t stride = job->tensor_count;
    void *after = at[0], *gradient = at[stride], *before = at[2 * stride];
    double *sums = job->partial + index * (SUMS + job->origins);
    double *table = call->histogram ? job->table + index * 2 * BINS : 0;
    double *values = table && tensor->values >= 0 ? job->values + tensor->values : 0;
    int64_t bytes = bytes_of(tensor->dtype);
    float tiles[3][TILE] __attribute__((aligned(64))), factor[TILE] __attribute__((aligned(64)));
    float c[TILE] __attribute__((aligned(64)));
    int16_t bins[TILE] __attribute__((aligned(64)));
    sum_t total[SUMS], here[SUMS];
    memset(total, 0, sizeof total);
    memset(sums, 0, (SUMS + job->origins) * sizeof *sums);
    if (table) memset(table, 0, 2 * BINS * sizeof *table);
    for (int64_t start = chunk->start; start < chunk->stop; start += TILE) {
        int64_t n = chunk->stop - start < TILE ? chunk->stop - start : TILE;
        int64_t padded = (n + 2 * LANES - 1) / (2 * LANES) * 2 * LANES;
        int exactly = tensor->dtype == FLOAT64 ||
                      (call->by_gradient && tensor->gradient_dtype == FLOAT64);
        if (!exactly) {
            const float *theta = NAME(load)(before, tensor->dtype, start, n, padded, tiles[0]);
            const float *updated = NAME(load)(after, tensor->dtype, start, n, padded, tiles[1]);
            const float *second = factor;
            if (call->by_gradient)
                second = NAME(load)(gradient, tensor->gradient_dtype, start, n, padded, tiles[2]);
            else
                for (int64_t i = 0; i < padded; i++) factor[i] = i < n ? 1.0f : 0.0f;
            const float *first = call->by_theta ? theta : ONES;
            if (job->precise)
                NAME(precise_tile)(theta, updated, first, second, padded, here, c, bins, 1);
            else if (table)
                NAME(tile)(theta, updated, first, second, padded, here, c, bins, 1);
            else
                NAME(tile)(theta, updated, first, second, padded, here, c, bins, 0);
            exactly = !NAME(fits)(here, first, second, n);
            here[ZEROS][0] -= (double)(padded - n);
        }
        if (exactly) {
            add_exactly(job, tensor, before, after, gradient, start, start + n, sums, table, values);
        } else {
            for (int k = 0; k < SUMS; k++) total[k] += here[k];
            if (table)
                for (int64_t i = 0; i < n; i++) {
                    pair_t add = {c[i], 1.0};
                    *(pair_t *)(table + 2 * bins[i]) += add;
                }
            if (values)
                for (int64_t i = 0; i < n; i++) values[start + i] = c[i];
        }
        for (int64_t k = 0; k < job->origins; k++)
            sums[SUMS + k] += NAME(distance)(after, at[(3 + k) * stride], tensor->dtype, start, n);
        if (call->refresh)
            memcpy((char *)before + start * bytes, (char *)after + start * bytes, n * bytes);
    }
    for (int k = 0; k < SUMS; k++) sums[k] += NAME(across)(total + k);
}

#endif

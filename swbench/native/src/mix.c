/* y = A x + b and dx = Aᵀ dy + B x + c for every pixel: each tensor is read once, the result written once. */
#include "table.h"
#include "team.h"
#include "tensor.h"

/* A tile of rows × (TV vectors of pixels) stays in registers. */
#define TR (REGISTERS == 32 ? 8 : 4)
#define TV 3
#define WANTED_PIXELS 4032

struct mix {
    struct shape s;
    const float *x, *dy; /* dy null for the affine map */
    const float *a, *b, *c;
    float *y;
    int shared;     /* one set of matrices for all images */
    int transposed; /* the matrix of dy is given as A, not as Aᵀ */
    long groups, segments, segment;
};

/* rows × TV vectors of Σ_k w[k][row] source[k][pixel] + bias[row]. */
INLINE void tile_product(const int rows, const float *w, int stride, const float *source, int terms, const float *bias, float *out, long out_stride) {
    vec t[TR][TV];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TV; v++) t[r][v] = bias[r] - (vec){0};
    for (int k = 0; k < terms; k++, source += BLOCK, w += stride) {
        vec in[TV];
        for (int v = 0; v < TV; v++) in[v] = *(const vec *)(source + v * VL);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < TV; v++) t[r][v] += w[r] * in[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TV; v++) store(out + r * out_stride + v * VL, t[r][v]);
}

INLINE void block_product(const struct mix *k, long n, long g, long first, int count, const float *w, const float *source, int terms, const float *bias, const int rows, int row) {
    const int group = k->s.group, stride = padded(group), step = TV * VL;
    float spare[TR * TV * VL] ALIGNED;
    const int used = group - row < rows ? group - row : rows;
    for (int p = 0; p < count; p += step) {
        if (!k->s.channels_last && p + step <= count && used == rows) {
            float *out = k->y + ((n * k->s.channels) + g * group + row) * k->s.pixels + first + p;
            tile_product(rows, w + row, stride, source + p, terms, bias + row, out, k->s.pixels);
        } else {
            tile_product(rows, w + row, stride, source + p, terms, bias + row, spare, step);
            tile_store(k->y, &k->s, n, g, row, used, first + p, count - p < step ? count - p : step, spare, step);
        }
    }
}

INLINE void segment_product(const struct mix *k, long n, long g, long first, long last, const int group) {
    const int rows = padded(group), terms = k->dy ? 2 * group : group;
    const long at = (k->shared ? 0 : n * k->groups) + g;
    float source[2 * MAX_GROUP * BLOCK] ALIGNED, w[2 * MAX_GROUP * MAX_GROUP] ALIGNED, bias[MAX_GROUP] ALIGNED;
    const float *a = k->a + at * group * group, *b = k->dy ? k->b + at * group * group : 0, *c = k->c + at * group;
    for (int i = 0; i < rows; i++) bias[i] = i < group ? c[i] : 0.0f;
    for (int j = 0; j < group; j++)
        for (int i = 0; i < rows; i++) {
            w[j * rows + i] = i >= group ? 0.0f : k->transposed ? a[j * group + i] : a[i * group + j];
            if (b) w[(group + j) * rows + i] = i >= group ? 0.0f : b[i * group + j];
        }
    for (long p = first; p < last; p += BLOCK) {
        const int count = last - p < BLOCK ? (int)(last - p) : BLOCK;
        if (k->dy) block_load(source, k->dy, &k->s, n, g, p, count, 0, 0);
        block_load(source + (terms - group) * BLOCK, k->x, &k->s, n, g, p, count, 0, 0);
        int row = 0;
        for (; row + TR <= rows; row += TR) block_product(k, n, g, p, count, w, source, terms, bias, TR, row);
        for (; row < rows; row += 4) block_product(k, n, g, p, count, w, source, terms, bias, 4, row);
    }
}

static void mix_item(void *context, long index) {
    const struct mix *k = context;
    const long segment = index % k->segments, g = index / k->segments % k->groups, n = index / k->segments / k->groups;
    const long first = segment * k->segment, last = first + k->segment < k->s.pixels ? first + k->segment : k->s.pixels;
    if (k->s.group == 16)
        segment_product(k, n, g, first, last, 16);
    else
        segment_product(k, n, g, first, last, k->s.group);
}

static void mix_run(struct mix *k, int threads) {
    k->groups = k->s.channels / k->s.group;
    const long segments = (k->s.pixels + WANTED_PIXELS - 1) / WANTED_PIXELS;
    k->segment = ((k->s.pixels + segments - 1) / segments + BLOCK - 1) / BLOCK * BLOCK;
    k->segments = (k->s.pixels + k->segment - 1) / k->segment;
    sw_team_run(mix_item, k, k->s.images * k->groups * k->segments, threads);
}

static void affine(const float *x, const float *a, const float *b, int shared, float *y, const struct shape *s, int threads) {
    struct mix k = {.s = *s, .x = x, .a = a, .c = b, .y = y, .shared = shared};
    mix_run(&k, threads);
}

static void combine(const float *dy, const float *x, const float *a, int transposed, const float *b, const float *c, int shared, float *dx, const struct shape *s, int threads) {
    struct mix k = {.s = *s, .x = x, .dy = dy, .a = a, .b = b, .c = c, .y = dx, .shared = shared, .transposed = transposed};
    mix_run(&k, threads);
}

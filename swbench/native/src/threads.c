/* Parallel loops by GOMP_parallel of torch's own runtime, given by address, so that no second pool
 * of threads competes with it. */
#include "threads.h"

typedef void (*gomp_parallel_fn)(void (*body)(void *), void *data, unsigned threads,
                                 unsigned flags);

static gomp_parallel_fn gomp_parallel = 0;

/* Called once after loading; without it everything runs on the calling thread. */
__attribute__((visibility("default"))) void sw_set_openmp(void *address) {
    gomp_parallel = (gomp_parallel_fn)address;
}

/* Multiply-adds from which on more than one thread is used. At 40 to 80 multiply-adds a nanosecond
 * so many take 50 to 100 µs, of which a second thread would save half. A sleeping thread was seen
 * to take as long to wake. */
#define LEAST_PRODUCTS 4e6

int sw_useful_threads(double products, int threads) {
    return products < LEAST_PRODUCTS ? 1 : threads;
}

struct parallel_loop {
    task_fn task;
    void *context;
    long items, next;
};

static void body(void *data) {
    struct parallel_loop *loop = data;
    long item;
    while ((item = __atomic_fetch_add(&loop->next, 1, __ATOMIC_RELAXED)) < loop->items)
        loop->task(loop->context, item);
}

void sw_parallel_for(task_fn task, void *context, long items, int threads) {
    struct parallel_loop loop = {task, context, items, 0};
    if (threads > 1 && items > 1 && gomp_parallel)
        /* Always the same number: libgomp starts its threads anew when the number changes. */
        gomp_parallel(body, &loop, (unsigned)threads, 0);
    else
        body(&loop);
}

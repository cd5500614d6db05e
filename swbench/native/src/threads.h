/* Runs independent items on the threads of the OpenMP runtime that the process has loaded already.
 */
#ifndef SW_THREADS_H
#define SW_THREADS_H

typedef void (*task_fn)(void *context, long item);

/* Calls task(context, item) once for each item 0 … items-1, begun in this order. `threads` is the
 * number of threads, as in torch's own loops. */
void sw_parallel_for(task_fn task, void *context, long items, int threads);

/* The number of threads worth using for `products` multiply-adds: `threads`, or 1 where waking
 * others would take longer than they save. */
int sw_useful_threads(double products, int threads);

#endif

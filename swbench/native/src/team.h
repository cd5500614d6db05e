/* Runs independent items on the threads of the OpenMP runtime that the process has loaded already.
 */
#ifndef SW_TEAM_H
#define SW_TEAM_H

typedef void (*task_fn)(void *context, long item);

/* task(context, 0 … items-1), each once, begun in this order; `threads` is the size of the team, as
 * torch's own loops have it. */
void sw_team_run(task_fn task, void *context, long items, int threads);

/* The threads that work of so many multiply-adds is worth: `threads`, or 1 where waking others
 * would take longer than they save. */
int sw_team_worth(double products, int threads);

#endif

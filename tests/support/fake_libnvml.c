/* NVML with one card, for the real pynvml. The environment says how it is: FAKE_NVML_UTILISATION
   (per cent), FAKE_NVML_USED (bytes), FAKE_NVML_PID of a process on it, FAKE_NVML_MIG=1, and
   FAKE_NVML_FAIL=name:code,… for the answers that fail (3 is Not Supported, 999 Unknown Error).
   FAKE_NVML_LOG names a file to which each init and shutdown adds a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
typedef void *device;
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7 };
static const char UUID[] = "GPU-11111111-2222-3333-4444-555555555555";
static const char SLICE[] = "MIG-aaaaaaaa-2222-3333-4444-555555555555";

static long number(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? strtol(text, NULL, 10) : otherwise;
}
static int code_of(const char *name) {
  const char *at = getenv("FAKE_NVML_FAIL");
  size_t length = strlen(name);
  for (; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
    if (!strncmp(at, name, length) && at[length] == ':') return atoi(at + length + 1);
  return OK;
}
#define ANSWER(value) do { int code = code_of(__func__); if (code) return code; value; return OK; } while (0)
static void logged(const char *what) {
  const char *path = getenv("FAKE_NVML_LOG");
  FILE *file = path ? fopen(path, "a") : NULL;
  if (!file) return;
  fprintf(file, "%s\n", what);
  fclose(file);
}

int nvmlInitWithFlags(unsigned flags) { logged("init"); ANSWER(); }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { logged("shutdown"); return OK; }
const char *nvmlErrorString(int code) { return code == NOT_SUPPORTED ? "Not Supported" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { ANSWER(snprintf(text, size, "580.1")); }
int nvmlDeviceGetCount_v2(unsigned *count) { ANSWER(*count = number("FAKE_NVML_GPUS", 1)); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *handle) { ANSWER(*handle = (device)1); }
int nvmlDeviceGetHandleByUUID(const char *uuid, device *handle) {
  int slice = number("FAKE_NVML_MIG", 0) && !strcmp(uuid, SLICE);
  if (strcmp(uuid, UUID) && !slice) return NOT_FOUND;
  *handle = slice ? (device)2 : (device)1;
  return OK;
}
int nvmlDeviceGetUUID(device d, char *text, unsigned size) { ANSWER(snprintf(text, size, "%s", UUID)); }
int nvmlDeviceGetName(device d, char *text, unsigned size) { ANSWER(snprintf(text, size, "NVIDIA H100")); }
int nvmlDeviceGetUtilizationRates(device d, unsigned *rates) {
  if (d == (device)2) return NOT_SUPPORTED; /* a slice has none of its own */
  ANSWER(rates[0] = number("FAKE_NVML_UTILISATION", 0); rates[1] = 0);
}
int nvmlDeviceGetPowerUsage(device d, unsigned *mw) { ANSWER(*mw = 70000); }
int nvmlDeviceGetTotalEnergyConsumption(device d, u64 *mj) {
  if (d == (device)2) return NOT_SUPPORTED;
  ANSWER(*mj = 12345);
}
int nvmlDeviceGetClockInfo(device d, int type, unsigned *mhz) { ANSWER(*mhz = 1980); }
int nvmlDeviceGetMaxClockInfo(device d, int type, unsigned *mhz) { ANSWER(*mhz = 1980); }
int nvmlDeviceGetApplicationsClock(device d, int type, unsigned *mhz) { return NOT_SUPPORTED; }
int nvmlDeviceGetCurrentClocksEventReasons(device d, u64 *bits) { ANSWER(*bits = 1); }
int nvmlDeviceGetCurrentClocksThrottleReasons(device d, u64 *bits) { ANSWER(*bits = 1); }
int nvmlDeviceGetViolationStatus(device d, int policy, u64 *times) { ANSWER(times[0] = 1; times[1] = 2000000000ull); }
struct process { unsigned pid; u64 used; unsigned gpu, compute; };
int nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *count, struct process *list) {
  unsigned capacity = *count, pid = number("FAKE_NVML_PID", 0);
  int code = code_of(__func__);
  if (code) return code;
  *count = pid != 0;
  if (!pid) return OK;
  if (!capacity) return TOO_SMALL;
  list[0] = (struct process){pid, ~0ull, ~0u, ~0u}; /* its memory is not told */
  return OK;
}
int nvmlDeviceGetMemoryInfo(device d, u64 *info) { ANSWER(info[0] = 85520809984ull; info[1] = info[0]; info[2] = 0); }
struct memory { unsigned version; u64 total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo_v2(device d, struct memory *info) {
  u64 used = number("FAKE_NVML_USED", 4 << 20);
  ANSWER(info->total = 85520809984ull; info->reserved = 600 << 20; info->used = used);
}
int nvmlDeviceGetPowerManagementLimit(device d, unsigned *mw) { ANSWER(*mw = 700000); }
int nvmlDeviceGetMigMode(device d, unsigned *now, unsigned *later) { ANSWER(*now = *later = number("FAKE_NVML_MIG", 0)); }
int nvmlDeviceGetPersistenceMode(device d, unsigned *mode) { ANSWER(*mode = 0); }
int nvmlDeviceGetComputeMode(device d, unsigned *mode) { ANSWER(*mode = 0); }

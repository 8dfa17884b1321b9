// What a GPU has of memory; tch does not ask.

#include <c10/core/CachingDeviceAllocator.h>

#include <cstring>
#include <exception>

extern "C" {

// Bytes that nobody has taken, and all, of the first device.
void tidemark_cuda_memory(int64_t* free, int64_t* total, char** error) {
  try {
    const auto [unused, all] = at::getDeviceAllocator(c10::DeviceType::CUDA)->getMemoryInfo(0);
    *free = static_cast<int64_t>(unused);
    *total = static_cast<int64_t>(all);
  } catch (const std::exception& failure) {
    *error = strdup(failure.what());
  }
}

}  // extern "C"

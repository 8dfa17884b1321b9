// bfloat16 is the upper half of a float.

#pragma once

#include <cstdint>

// A function that is compiled once for each kind of processor, by compilers that can; which one runs is decided when the
// program starts.
#if defined(__x86_64__) && __GNUC__ >= 12
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

inline float widen(uint16_t number) { return __builtin_bit_cast(float, static_cast<uint32_t>(number) << 16); }

// To the nearest, halves to even. What is no number stays none: none that arithmetic on bfloat16 gives has all lower bits set.
inline uint16_t narrow(float number) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, number);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

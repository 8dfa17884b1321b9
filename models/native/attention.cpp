// Attention of one new token a row over what the cache holds of it, in bfloat16 on the processor, in one pass over the
// memory where keys and values lie. libtorch's goes through it once for each head, 128 bytes at a time, at a third of the
// speed of the memory. See models/src/qwen2_audio/kv_cache.rs.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bfloat16.h"
#include "guarded.h"

namespace {

// Tokens whose scores are worked out before their values are read: their keys and values stay in the second cache.
constexpr int64_t BLOCK = 32;

// Some key heads of one row, with the query heads of each.
struct Heads {
  int64_t first;
  int64_t count;
  int64_t queries;  // query heads to a key head
  int64_t all;      // key heads in the cache
};

// What is carried from block to block, for each query head: the largest score, the sum of weights, the weighted values.
struct State {
  std::vector<float> largest, sum, values, scores;
};

template <int64_t DIM>
__attribute__((always_inline)) inline void attend_row(const uint16_t* query, const uint16_t* tokens, int64_t length,
                                                      int64_t dim, Heads heads, State& state, uint16_t* out) {
  if (DIM > 0) dim = DIM;
  const int64_t queries = heads.count * heads.queries, stride = 2 * heads.all * dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  state.largest.assign(queries, -std::numeric_limits<float>::infinity());
  state.sum.assign(queries, 0.0f);
  state.values.assign(queries * dim, 0.0f);
  state.scores.resize(queries * BLOCK);
  query += heads.first * heads.queries * dim;
  out += heads.first * heads.queries * dim;
  tokens += heads.first * dim;
  for (int64_t begin = 0; begin < length; begin += BLOCK) {
    const int64_t block = std::min(BLOCK, length - begin);
    for (int64_t token = 0; token < block; ++token) {
      const uint16_t* keys = tokens + (begin + token) * stride;
      for (int64_t n = 0; n < queries; ++n) {
        const uint16_t *key = keys + n / heads.queries * dim, *of_query = query + n * dim;
        float dot = 0.0f;
        for (int64_t at = 0; at < dim; ++at) dot += widen(of_query[at]) * widen(key[at]);
        state.scores[n * BLOCK + token] = dot * scale;
      }
    }
    for (int64_t n = 0; n < queries; ++n) {
      float *scores = state.scores.data() + n * BLOCK, *values = state.values.data() + n * dim;
      const float largest = std::max(state.largest[n], *std::max_element(scores, scores + block));
      const float shrink = std::exp(state.largest[n] - largest);
      state.largest[n] = largest;
      state.sum[n] *= shrink;
      for (int64_t at = 0; at < dim; ++at) values[at] *= shrink;
      for (int64_t token = 0; token < block; ++token) {
        scores[token] = std::exp(scores[token] - largest);
        state.sum[n] += scores[token];
      }
    }
    for (int64_t token = 0; token < block; ++token) {
      const uint16_t* of_token = tokens + (begin + token) * stride + heads.all * dim;
      for (int64_t n = 0; n < queries; ++n) {
        const uint16_t* value = of_token + n / heads.queries * dim;
        float* values = state.values.data() + n * dim;
        const float weight = state.scores[n * BLOCK + token];
        for (int64_t at = 0; at < dim; ++at) values[at] += weight * widen(value[at]);
      }
    }
  }
  for (int64_t n = 0; n < queries; ++n) {
    for (int64_t at = 0; at < dim; ++at) out[n * dim + at] = narrow(state.values[n * dim + at] / state.sum[n]);
  }
}

FOR_EACH_PROCESSOR void attend_row_any(const uint16_t* query, const uint16_t* tokens, int64_t length, int64_t dim,
                                       Heads heads, State& state, uint16_t* out) {
  switch (dim) {
    case 64:
      return attend_row<64>(query, tokens, length, dim, heads, state, out);
    case 128:
      return attend_row<128>(query, tokens, length, dim, heads, state, out);
    default:
      return attend_row<0>(query, tokens, length, dim, heads, state, out);
  }
}

}  // namespace

// `query` (rows, heads, dim), `cache` (places, 2 · key heads, dim), both contiguous; row n's tokens lie at the places from
// `places[n]` on, `lengths[n]` of them. Gives (rows, heads · dim).
extern "C" at::Tensor* tidemark_attend(const at::Tensor* query, const at::Tensor* cache, const int64_t* places,
                                       const int64_t* lengths, char** error) {
  return guarded(error, [&] {
    const int64_t rows = query->size(0), queries = query->size(1), dim = query->size(2), keys = cache->size(1) / 2;
    const at::Tensor asked = query->contiguous();
    at::Tensor attended = at::empty({rows, queries * dim}, query->options());
    const auto* from = reinterpret_cast<const uint16_t*>(asked.const_data_ptr<at::BFloat16>());
    const auto* tokens = reinterpret_cast<const uint16_t*>(cache->const_data_ptr<at::BFloat16>());
    auto* out = reinterpret_cast<uint16_t*>(attended.data_ptr<at::BFloat16>());
    at::parallel_for(0, rows * keys, 1, [&](int64_t begin, int64_t end) {
      State state;
      while (begin < end) {
        const int64_t row = begin / keys, first = begin % keys, count = std::min(keys - first, end - begin);
        attend_row_any(from + row * queries * dim, tokens + places[row] * 2 * keys * dim, lengths[row], dim,
                       {first, count, queries / keys, keys}, state, out + row * queries * dim);
        begin += count;
      }
    });
    return attended;
  });
}

// Update rules of the optimizers over flat buffers: one launch each (kernels/updates.py says what they mean).
//
// C is the type of the small arrays (control, table, progress), T that of the buffers. A block takes a chunk of the
// buffer; the numbers of the segments in it are computed once, in shared memory. The last block writes the progress,
// since the others read it.
#include "blocks.cuh"

enum { STEP, RATE, SCALE, CLIP_NORM, CLIP_VALUE, SKIP, FACTOR, APPLY, NORM, PENALTY };
enum { TRAINABLE, TOUCHED, MULTIPLIER, DECAY, L1, L2 };
constexpr int WINDOW = 32;      // segments whose numbers are in shared memory at once
constexpr int VECTOR = 4;       // elements that a thread takes at once
constexpr int CHUNK = 256 * VECTOR;

// What holds for a segment: rate, decay and penalties, and what a rule makes of rate and age.
template <class T> struct Numbers { T decay, l1, l2, a, b, c; bool active; };
struct Attributes { double x0, x1, x2, x3; };

template <class T> __device__ __forceinline__ T sign_of(T x) { return x != x ? x : (T)((x > 0) - (x < 0)); }

template <class T> __device__ __forceinline__ T penalized(T w, T g, T scale, T l1, T l2) {
  return g * scale + (l1 * sign_of(w) + (T)2 * l2 * w);
}

// -- the rules: `prepare` once for a segment, `apply` once for an element ------------------------------------------------

// What most rules share: their decay is a part of the gradient, and only the rate is prepared.
struct Plain {
  static constexpr bool coupled = true, product = false;
  template <class T, class C> __device__ static void prepare(Numbers<T>& n, C rate, C decay, C age, C& mu, Attributes s) { n.a = (T)rate; }
};

struct Sgd : Plain {
  static constexpr int states = 0;
  template <class T> __device__ static void apply(T& w, T g, T& s0, T& s1, const Numbers<T>& n, Attributes s) { w = w - n.a * g; }
};

struct Momentum : Plain {  // momentum, nesterov
  static constexpr int states = 1;
  template <class T> __device__ static void apply(T& w, T g, T& v, T& s1, const Numbers<T>& n, Attributes s) {
    v = (T)s.x0 * v + g;
    w = w - n.a * (s.x1 != 0 ? g + (T)s.x0 * v : v);
  }
};

struct Adagrad : Plain {  // epsilon
  static constexpr int states = 1;
  template <class T> __device__ static void apply(T& w, T g, T& total, T& s1, const Numbers<T>& n, Attributes s) {
    total = total + g * g;
    w = w - n.a * g / (sqrt(total) + (T)s.x0);
  }
};

struct Rmsprop : Plain {  // rho, epsilon
  static constexpr int states = 1;
  template <class T> __device__ static void apply(T& w, T g, T& square, T& s1, const Numbers<T>& n, Attributes s) {
    square = (T)s.x0 * square + (T)(1.0 - s.x0) * g * g;
    w = w - n.a * g / (sqrt(square) + (T)s.x1);
  }
};

struct RmspropMomentum : Plain {  // rho, epsilon, momentum
  static constexpr int states = 2;
  template <class T> __device__ static void apply(T& w, T g, T& square, T& v, const Numbers<T>& n, Attributes s) {
    square = (T)s.x0 * square + (T)(1.0 - s.x0) * g * g;
    v = (T)s.x2 * v + g / (sqrt(square) + (T)s.x1);
    w = w - n.a * v;
  }
};

struct Adadelta : Plain {  // rho, epsilon
  static constexpr int states = 2;
  template <class T> __device__ static void apply(T& w, T g, T& square, T& change, const Numbers<T>& n, Attributes s) {
    square = (T)s.x0 * square + (T)(1.0 - s.x0) * g * g;
    T delta = sqrt(change + (T)s.x1) / sqrt(square + (T)s.x1) * g;
    change = (T)s.x0 * change + (T)(1.0 - s.x0) * delta * delta;
    w = w - n.a * delta;
  }
};

// m and v move on; returns sqrt(v^) + epsilon, where v^ = v / n.b.
template <class T> __device__ __forceinline__ T moments(T g, T& m, T& v, const Numbers<T>& n, Attributes s) {
  m = (T)s.x0 * m + (T)(1.0 - s.x0) * g;
  v = (T)s.x1 * v + (T)(1.0 - s.x1) * g * g;
  return sqrt(v / n.b) + (T)s.x2;
}

struct Adam {  // beta 1, beta 2, epsilon
  static constexpr bool coupled = false, product = false;
  static constexpr int states = 2;
  template <class T, class C> __device__ static void prepare(Numbers<T>& n, C rate, C decay, C age, C& mu, Attributes s) {
    n.a = (T)(rate / ((C)1 - pow((C)s.x0, age)));
    n.b = (T)((C)1 - pow((C)s.x1, age));
  }
  template <class T> __device__ static void apply(T& w, T g, T& m, T& v, const Numbers<T>& n, Attributes s) {
    T root = moments(g, m, v, n, s);
    w = w - n.a * m / root;
  }
};

struct Adamw {
  static constexpr bool coupled = false, product = false;
  static constexpr int states = 2;
  template <class T, class C> __device__ static void prepare(Numbers<T>& n, C rate, C decay, C age, C& mu, Attributes s) {
    Adam::prepare(n, rate, decay, age, mu, s);
    n.c = (T)((C)1 - rate * decay);
  }
  template <class T> __device__ static void apply(T& w, T g, T& m, T& v, const Numbers<T>& n, Attributes s) {
    T root = moments(g, m, v, n, s);
    w = w * n.c - n.a * m / root;
  }
};

struct Nadam {  // beta 1, beta 2, epsilon, momentum decay
  static constexpr bool coupled = false, product = true;
  static constexpr int states = 2;
  template <class C> __device__ static C momentum(C age, Attributes s) {
    return (C)s.x0 * ((C)1 - (C)0.5 * pow((C)0.96, age * (C)s.x3));
  }
  // `product` is that of the momenta so far, and goes one step on
  template <class T, class C> __device__ static void prepare(Numbers<T>& n, C rate, C decay, C age, C& product, Attributes s) {
    C mu = momentum(age, s), next = momentum(age + (C)1, s);
    product = product * mu;
    n.a = (T)(rate * ((C)1 - mu) / ((C)1 - product));
    n.b = (T)((C)1 - pow((C)s.x1, age));
    n.c = (T)(rate * next / ((C)1 - product * next));
  }
  template <class T> __device__ static void apply(T& w, T g, T& m, T& v, const Numbers<T>& n, Attributes s) {
    T root = moments(g, m, v, n, s);
    w = w - (n.a * g + n.c * m) / root;
  }
};

struct Lion {  // beta 1, beta 2
  static constexpr bool coupled = false, product = false;
  static constexpr int states = 1;
  template <class T, class C> __device__ static void prepare(Numbers<T>& n, C rate, C decay, C age, C& mu, Attributes s) {
    n.a = (T)rate;
    n.c = (T)((C)1 - rate * decay);
  }
  template <class T> __device__ static void apply(T& w, T g, T& m, T& s1, const Numbers<T>& n, Attributes s) {
    T step = sign_of((T)s.x0 * m + (T)(1.0 - s.x0) * g);
    w = w * n.c - n.a * step;
    m = (T)s.x1 * m + (T)(1.0 - s.x1) * g;
  }
};

// -- one launch ---------------------------------------------------------------------------------------------------------

template <class R, class T, class C>
__device__ __forceinline__ void element(T& w, T g, T& s0, T& s1, const Numbers<T>& n, T scale, T factor, T limit, Attributes s) {
  if (!n.active) return;
  g = penalized(w, g, scale, n.l1, n.l2) * factor;
  g = Smallest()(Largest()(g, -limit), limit);
  if (R::coupled) g = g + n.decay * w;
  R::apply(w, g, s0, s1, n, s);
}

// Gradients G in half precision come with a copy of the weights in that type, which is written in the same pass.
template <class R, class T, class C, class G>
__device__ void update(C* progress_out, T* w_out, T* s0_out, T* s1_out, G* copy_out, const C* control, const C* table,
                       const int64_t* starts, const C* progress, const T* w, const G* g, const T* s0, const T* s1, int64_t n, int64_t segments,
                       bool straight, Attributes s, unsigned* ticket) {
  __shared__ Numbers<T> numbers[WINDOW];
  __shared__ int64_t bounds[WINDOW + 1];
  T scale = (T)control[SCALE], factor = (T)control[FACTOR], limit = (T)control[CLIP_VALUE];
  for (int64_t begin = blockIdx.x * (int64_t)CHUNK; begin < n; begin += gridDim.x * (int64_t)CHUNK) {
    int64_t end = begin + CHUNK < n ? begin + CHUNK : n;
    int64_t first = segment_of(starts, segments, begin), from = begin, to = begin;
    for (; to < end; first += WINDOW, from = to) {
      __syncthreads();
      if (threadIdx.x <= WINDOW) {
        int64_t segment = first + threadIdx.x;
        bounds[threadIdx.x] = segment < segments ? starts[segment] : n;
        if (threadIdx.x < WINDOW && segment < segments) {
          const C* column = table + segment;
          Numbers<T> found;
          C on = column[TRAINABLE * segments] * column[TOUCHED * segments] * control[APPLY];
          C decay = column[DECAY * segments], age = progress[segment] + on, product = progress[segments + segment];
          found.active = on > 0;
          found.decay = (T)decay;
          found.l1 = (T)column[L1 * segments];
          found.l2 = (T)column[L2 * segments];
          found.a = found.b = found.c = 0;
          R::prepare(found, column[MULTIPLIER * segments] * control[RATE], decay, age > 1 ? age : (C)1, product, s);
          numbers[threadIdx.x] = found;
        }
      }
      __syncthreads();
      to = first + WINDOW < segments && bounds[WINDOW] < end ? bounds[WINDOW] : end;
      int64_t i = begin + threadIdx.x * (int64_t)VECTOR, stop = i + VECTOR;
      if (i >= to || stop <= from) continue;
      int place = 0;
      while (place + 1 < WINDOW && bounds[place + 1] <= (i > from ? i : from)) place++;
      if (straight && i >= from && stop <= to && stop <= bounds[place + 1]) {
        Numbers<T> here = numbers[place];
        Vector<T, VECTOR> ws = vector<VECTOR>(w + i), first_state = ws, second_state = ws;
        Vector<G, VECTOR> gs = vector<VECTOR>(g + i);
        if (R::states > 0) first_state = vector<VECTOR>(s0 + i);
        if (R::states > 1) second_state = vector<VECTOR>(s1 + i);
#pragma unroll
        for (int k = 0; k < VECTOR; k++)
          element<R, T, C>(ws.v[k], (T)widen(gs.v[k]), first_state.v[k], second_state.v[k], here, scale, factor, limit, s);
        vector<VECTOR>(w_out + i) = ws;
        if (sizeof(G) < sizeof(T)) {
#pragma unroll
          for (int k = 0; k < VECTOR; k++) gs.v[k] = Narrow<G>::of(ws.v[k]);
          vector<VECTOR>(copy_out + i) = gs;
        }
        if (R::states > 0) vector<VECTOR>(s0_out + i) = first_state;
        if (R::states > 1) vector<VECTOR>(s1_out + i) = second_state;
        continue;
      }
      for (int64_t at = i > from ? i : from; at < (stop < to ? stop : to); at++) {
        while (place + 1 < WINDOW && bounds[place + 1] <= at) place++;
        T value = w[at], state = R::states > 0 ? s0[at] : (T)0, other = R::states > 1 ? s1[at] : (T)0;
        element<R, T, C>(value, (T)widen(g[at]), state, other, numbers[place], scale, factor, limit, s);
        w_out[at] = value;
        if (sizeof(G) < sizeof(T)) copy_out[at] = Narrow<G>::of(value);
        if (R::states > 0) s0_out[at] = state;
        if (R::states > 1) s1_out[at] = other;
      }
    }
  }
  if (!last_block(ticket)) return;
  for (int64_t segment = threadIdx.x; segment < segments; segment += blockDim.x) {
    const C* column = table + segment;
    C on = column[TRAINABLE * segments] * column[TOUCHED * segments] * control[APPLY];
    C age = progress[segment] + on, product = progress[segments + segment];
    if (R::product && on > 0) product = product * Nadam::momentum(age > 1 ? age : (C)1, s);
    progress_out[segment] = age;
    progress_out[segments + segment] = product;
  }
}

// blocks that a processor holds at once
#define BLOCKS_float 4
#define BLOCKS_double 2
#define RULE(NAME, R, T, C, G)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256, BLOCKS_##T) NAME(                                                   \
      C* progress_out, T* w_out, T* s0_out, T* s1_out, G* copy_out, const C* control, const C* table,                   \
      const int64_t* starts, const C* progress, const T* w, const G* g, const T* s0, const T* s1, int64_t n,            \
      int64_t segments, bool straight,                                                                                  \
      double x0, double x1, double x2, double x3, unsigned* ticket) {                                                   \
    Attributes s = {x0, x1, x2, x3};                                                                                    \
    update<R, T, C, G>(progress_out, w_out, s0_out, s1_out, copy_out, control, table, starts, progress, w, g, s0, s1,   \
                       n, segments, straight, s, ticket);                                                               \
  }

// -- what clipping needs -------------------------------------------------------------------------------------------------

// Sums over a part of a segment: of squares of the gradient, of its values that are not finite, of |w| and w^2, and of
// weights that are not finite.
struct Part { double squares, broken, absolute, square, lost; };

__device__ __forceinline__ Part block_part(Part p, double* scratch) {
  p.squares = block_reduce(p.squares, 0.0, scratch, Sum());
  p.broken = block_reduce(p.broken, 0.0, scratch, Sum());
  p.absolute = block_reduce(p.absolute, 0.0, scratch, Sum());
  p.square = block_reduce(p.square, 0.0, scratch, Sum());
  p.lost = block_reduce(p.lost, 0.0, scratch, Sum());
  return p;
}

template <class C> __device__ __forceinline__ double penalty_of(Part p, const C* table, int64_t segments, int64_t segment) {
  double l1 = (double)table[L1 * segments + segment], l2 = (double)table[L2 * segments + segment];
  if (!(table[TRAINABLE * segments + segment] > 0)) return 0;
  double absolute = p.lost > 0 ? (double)NAN : p.absolute, square = p.lost > 0 ? (double)NAN : p.square;
  return (l1 > 0 ? l1 * absolute : 0) + (l2 > 0 ? l2 * square : 0);
}

// Every block measures `length` elements. The part of segment s in block b is number b + s: no two parts share a number.
template <class T, class C, class G, bool GRADIENT>
__device__ void measure(double* out, Part* parts, const C* control, const C* table, const int64_t* starts, const T* w,
                        const G* g, int64_t n, int64_t segments, int64_t length, unsigned* ticket) {
  __shared__ double scratch[32];
  int64_t begin = blockIdx.x * length, end = begin + length < n ? begin + length : n;
  T scale = GRADIENT ? (T)control[SCALE] : (T)0;
  for (int64_t segment = segment_of(starts, segments, begin); segment < segments && starts[segment] < end; segment++) {
    int64_t next = segment + 1 < segments ? starts[segment + 1] : n;
    int64_t from = begin > starts[segment] ? begin : starts[segment], to = end < next ? end : next;
    T l1 = (T)table[L1 * segments + segment], l2 = (T)table[L2 * segments + segment];
    bool on = table[TRAINABLE * segments + segment] * table[TOUCHED * segments + segment] > 0;
    Part p = {0, 0, 0, 0, 0};
    for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x) {
      double value = (double)w[i];
      if (isfinite(value)) {
        p.absolute += fabs(value);
        p.square += value * value;
      } else p.lost += 1;
      if (GRADIENT && on) {
        double full = (double)penalized(w[i], (T)widen(g[i]), scale, l1, l2);
        if (isfinite(full)) p.squares += full * full;
        else p.broken += 1;
      }
    }
    p = block_part(p, scratch);
    if (threadIdx.x == 0) parts[blockIdx.x + segment] = p;
  }
  if (!last_block(ticket)) return;
  double total = 0;
  for (int64_t segment = 0; segment < segments; segment++) {
    int64_t next = segment + 1 < segments ? starts[segment + 1] : n;
    int64_t low = starts[segment] / length, high = (next - 1) / length;
    Part p = {0, 0, 0, 0, 0};
    for (int64_t block = low + threadIdx.x; block <= high; block += blockDim.x) {
      Part more = parts[block + segment];
      p.squares += more.squares;
      p.broken += more.broken;
      p.absolute += more.absolute;
      p.square += more.square;
      p.lost += more.lost;
    }
    if (high > low) p = block_part(p, scratch);
    if (threadIdx.x) continue;
    double penalty = penalty_of(p, table, segments, segment);
    if (GRADIENT) {
      out[segment] = p.broken > 0 ? (double)NAN : p.squares;
      out[segments + segment] = p.broken;
      out[2 * segments + segment] = penalty;
    }
    total += penalty;
  }
  if (!GRADIENT && threadIdx.x == 0) out[0] = total;
}

#define MEASURE(T, C, G)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256, 2) measure_gradient(                                                \
      double* out, double* parts, const C* control, const C* table, const int64_t* starts, const T* w, const G* g,      \
      int64_t n, int64_t segments, int64_t length, unsigned* ticket) {                                                  \
    measure<T, C, G, true>(out, (Part*)parts, control, table, starts, w, g, n, segments, length, ticket);                  \
  }                                                                                                                     \
  extern "C" __global__ void __launch_bounds__(256, 2) measure_penalty(                                                 \
      double* out, double* parts, const C* table, const int64_t* starts, const T* w, int64_t n, int64_t segments,       \
      int64_t length, unsigned* ticket) {                                                                               \
    measure<T, C, T, false>(out, (Part*)parts, (const C*)0, table, starts, w, w, n, segments, length, ticket);             \
  }

// Rows of statistics (squares, broken, penalties) of up to four buffers, added up by one thread in the order of NumPy's
// sum of few numbers; segments are few.
template <class C> __device__ void clip(C* out, const C* control, const double* const* rows, const int64_t* counts, int buffers) {
  if (threadIdx.x || blockIdx.x) return;
  double squares = 0, broken = 0, penalty = 0;
  for (int b = 0; b < buffers; b++) {
    int64_t count = counts[b];
    double sums[3];
    for (int row = 0; row < 3; row++) {
      double sum = 0;
      for (int64_t i = 0; i < count; i++) sum += rows[b][row * count + i];
      sums[row] = sum;
    }
    squares += sums[0];
    broken += sums[1];
    penalty += sums[2];
  }
  C norm = (C)sqrt(squares), limit = control[CLIP_NORM];
  bool within = norm <= limit || limit == (C)INFINITY, skip = control[SKIP] > 0 && broken > 0;
  for (int i = 0; i < FACTOR; i++) out[i] = control[i];
  out[FACTOR] = within ? (C)1 : limit / norm;
  out[APPLY] = skip ? (C)0 : (C)1;
  out[NORM] = norm;
  out[PENALTY] = (C)penalty;
}

#define CLIP(C)                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 2) clip_control(                                                    \
      C* out, const C* control, const double* r0, const double* r1, const double* r2, const double* r3, int64_t n0,     \
      int64_t n1, int64_t n2, int64_t n3, int buffers) {                                                                \
    const double* rows[4] = {r0, r1, r2, r3};                                                                           \
    int64_t counts[4] = {n0, n1, n2, n3};                                                                               \
    clip<C>(out, control, rows, counts, buffers);                                                                       \
  }

#define AVERAGE(T, C)                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 2) average(T* out, const C* control, const T* average, const T* w,  \
                                                               int64_t n, double share) {                               \
    bool apply = control[APPLY] > 0;                                                                                    \
    int64_t threads = (int64_t)gridDim.x * blockDim.x;                                                                  \
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += threads)                               \
      out[i] = apply ? average[i] + (T)share * (w[i] - average[i]) : average[i];                                        \
  }

// -- keeping what every step needs (kernels/guarding.py) -----------------------------------------------------------------

// One block. What is read of `taken` and `ring` is read before it is written.
#define KEEP(L, P, C, T, K, R)                                                                                          \
  extern "C" __global__ void __launch_bounds__(256, 2) keep_step(                                                       \
      T* kept_out, K* taken_out, R* ring_out, const L* loss, const P* probe, const C* control, const T* w,              \
      const T* kept, const K* taken, const R* ring, int64_t probes, int64_t n, int64_t size, bool copy) {               \
    __shared__ int scratch[32];                                                                                         \
    int broken = threadIdx.x == 0 && !isfinite(widen(loss[0]));                                                         \
    for (int64_t i = threadIdx.x; i < probes; i += blockDim.x) broken |= !isfinite(widen(probe[i]));                    \
    broken = block_reduce(broken, 0, scratch, Largest());                                                               \
    K before = taken[0];                                                                                                \
    bool now = broken && before == (K)0;                                                                                \
    if (now || copy) {                                                                                                  \
      const T* from = now ? w : kept;                                                                                   \
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x) kept_out[i] = from[i];                                      \
    }                                                                                                                   \
    C step = control[STEP];                                                                                             \
    int64_t here = (int64_t)(step - (C)size * floor(step / (C)size));                                                   \
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x)                                                            \
      ring_out[i] = i == here ? (R)widen(loss[0]) : ring[i];                                                            \
    __syncthreads();                                                                                                    \
    if (threadIdx.x == 0) taken_out[0] = before + (now ? (K)step : (K)0);                                               \
  }

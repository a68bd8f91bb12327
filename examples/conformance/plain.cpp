// The paper's loss and its gradient in C++17: no framework, no library, every derivative by hand.
//
//   c++ -std=c++17 -O2 -o plain plain.cpp
//   gramstyle conformance run --command ./plain
//
// First the mathematics, then the protocol: cases come as lines of JSON on stdin and answers go as
// lines of JSON to stdout; the arrays are in files of numbers, little-endian, as this program expects
// its processor to be. docs/conformance-programs.md describes the messages.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// ---------------------------------------------------------------------------------------------
// Arrays. Real is the float type of the case; sums are double.

template <class Real>
struct Array {
  std::vector<int> shape;
  std::vector<Real> data;

  Array() = default;
  explicit Array(std::vector<int> s) : shape(std::move(s)), data(size(), Real(0)) {}

  std::size_t size() const {
    std::size_t product = 1;
    for (int n : shape) product *= n;
    return product;
  }
};

// ---------------------------------------------------------------------------------------------
// The case, as the protocol describes it.

template <class Real>
struct Layer {
  std::string name, kind, padding;  // kind: "convolution", "max" or "avg"
  Array<Real> W, b;
};

template <class Real>
struct Term {  // factor · Σ (… − target)²
  std::string layer;
  double factor = 0;
  Array<Real> target;
  Array<Real> T;          // the guidance of a region; empty elsewhere
  std::string statistic;  // "content", "gram", "mean-std" or "covariance"
};

template <class Real>
struct Case {
  Array<Real> x;
  bool reversed = false;  // whether the network sees BGR
  std::vector<double> mean, scale;
  std::vector<Layer<Real>> layers;
  std::vector<Term<Real>> terms;
  double tv = 0;
};

template <class Real>
struct Answer {
  double loss = 0;
  Array<Real> gradient;
  std::map<std::string, Array<Real>> dF;
};

// ---------------------------------------------------------------------------------------------
// The layers.

// Where position i of n lies that a padding reads; −1 for a zero.
int source(int i, int n, const std::string& padding) {
  if (0 <= i && i < n) return i;
  if (padding == "replicate") return i < 0 ? 0 : n - 1;
  if (padding == "reflect") return i < 0 ? -i : 2 * (n - 1) - i;
  if (padding == "circular") return (i + n) % n;
  return -1;
}

// Call f(n, c, k, from, w): at position k, filter n reads channel c at `from` with weight w.
template <class Real, class Function>
void each_tap(const Layer<Real>& layer, int H, int V, Function f) {
  const int N = layer.W.shape[0], C = layer.W.shape[1];
  for (int n = 0; n < N; n++)
    for (int c = 0; c < C; c++)
      for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
          const double w = layer.W.data[((n * C + c) * 3 + i) * 3 + j];
          for (int row = 0; row < H; row++) {
            const int r = source(row + i - 1, H, layer.padding);
            for (int column = 0; column < V && r >= 0; column++) {
              const int s = source(column + j - 1, V, layer.padding);
              if (s >= 0) f(n, c, row * V + column, r * V + s, w);
            }
          }
        }
}

// F = max(0, Z), where Z = b + the cross-correlation of X with W.
template <class Real>
Array<Real> convolution(const Array<Real>& X, const Layer<Real>& layer) {
  const int N = layer.W.shape[0], H = X.shape[1], V = X.shape[2], M = H * V;
  std::vector<double> Z(N * M);
  for (int at = 0; at < N * M; at++) Z[at] = layer.b.data[at / M];
  each_tap(layer, H, V, [&](int n, int c, int k, int from, double w) {
    Z[n * M + k] += w * X.data[c * M + from];
  });
  Array<Real> F({N, H, V});
  for (int at = 0; at < N * M; at++) F.data[at] = Real(std::max(0.0, Z[at]));
  return F;
}

// dZ = dF where F > 0; every tap returns dZ to where it read from.
template <class Real>
Array<Real> convolution_backward(const Array<Real>& dF, const Array<Real>& F,
                                 const Layer<Real>& layer) {
  const int C = layer.W.shape[1], H = F.shape[1], V = F.shape[2], M = H * V;
  std::vector<double> sums(C * M);
  each_tap(layer, H, V, [&](int n, int c, int k, int from, double w) {
    if (F.data[n * M + k] > 0) sums[c * M + from] += w * dF.data[n * M + k];
  });
  Array<Real> dX({C, H, V});
  std::copy(sums.begin(), sums.end(), dX.data.begin());
  return dX;
}

// Call f(at, window): the output `at`, and its four inputs in reading order.
template <class Function>
void each_window(const std::vector<int>& shape, Function f) {
  const int N = shape[0], H = shape[1], V = shape[2], h = H / 2, v = V / 2;
  for (int n = 0; n < N; n++)
    for (int i = 0; i < h; i++)
      for (int j = 0; j < v; j++) {
        const int first = (n * H + 2 * i) * V + 2 * j;
        const int window[4] = {first, first + 1, first + V, first + V + 1};
        f((n * h + i) * v + j, window);
      }
}

// The first of four inputs that is the largest.
template <class Real>
int largest(const Array<Real>& X, const int* window) {
  return *std::max_element(window, window + 4,
                           [&](int one, int other) { return X.data[one] < X.data[other]; });
}

// The largest entry or the mean of each window; an odd last row or column is left out.
template <class Real>
Array<Real> pooling(const Array<Real>& X, const std::string& kind) {
  Array<Real> Y({X.shape[0], X.shape[1] / 2, X.shape[2] / 2});
  each_window(X.shape, [&](int at, const int* window) {
    double sum = 0;
    for (int i = 0; i < 4; i++) sum += X.data[window[i]];
    Y.data[at] = kind == "max" ? X.data[largest(X, window)] : Real(sum / 4);
  });
  return Y;
}

// The first largest entry gets the whole derivative, or each entry a quarter of it.
template <class Real>
Array<Real> pooling_backward(const Array<Real>& dY, const Array<Real>& X,
                             const std::string& kind) {
  Array<Real> dX(X.shape);
  each_window(X.shape, [&](int at, const int* window) {
    if (kind == "max")
      dX.data[largest(X, window)] += dY.data[at];
    else
      for (int i = 0; i < 4; i++) dX.data[window[i]] += dY.data[at] / 4;
  });
  return dX;
}

// ---------------------------------------------------------------------------------------------
// The terms: each returns its value, and adds its derivative by F to dF.

// factor · Σ (F − P)²
template <class Real>
double content_term(const Array<Real>& F, const Term<Real>& term, Array<Real>& dF) {
  double sum = 0;
  for (std::size_t k = 0; k < F.size(); k++) {
    const double d = double(F.data[k]) - term.target.data[k];
    sum += d * d;
    dF.data[k] += Real(2 * term.factor * d);
  }
  return term.factor * sum;
}

// The means of the responses of each filter.
template <class Real>
std::vector<double> means(const Array<Real>& F) {
  const int N = F.shape[0], M = F.shape[1] * F.shape[2];
  std::vector<double> mu(N);
  for (int at = 0; at < N * M; at++) mu[at / M] += F.data[at] / double(M);
  return mu;
}

// factor · Σ (G / m − A)², where G = X Xᵀ:
// style: X = F and m = M; a region: X = T∘F and m = Σ T²; covariances: X = F − μ and m = M.
template <class Real>
double gram_term(const Array<Real>& F, const Term<Real>& term, Array<Real>& dF) {
  const int N = F.shape[0], M = F.shape[1] * F.shape[2];
  const bool guided = !term.T.data.empty();
  std::vector<double> X(F.data.begin(), F.data.end()), T(M, 1.0), D(N * N);
  if (guided) std::copy(term.T.data.begin(), term.T.data.end(), T.begin());
  if (term.statistic == "covariance") {
    const auto mu = means(F);
    for (int at = 0; at < N * M; at++) X[at] -= mu[at / M];
  }
  double m = 0, sum = 0;
  for (int k = 0; k < M; k++) m += T[k] * T[k];
  for (int at = 0; at < N * M; at++) X[at] *= T[at % M];
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      double G = 0;
      for (int k = 0; k < M; k++) G += X[i * M + k] * X[j * M + k];
      D[i * N + j] = G / m - term.target.data[i * N + j];
      sum += D[i * N + j] * D[i * N + j];
    }
  for (int i = 0; i < N; i++)
    for (int k = 0; k < M; k++) {
      double product = 0;
      for (int j = 0; j < N; j++) product += D[i * N + j] * X[j * M + k];
      dF.data[i * M + k] += Real(4 * term.factor / m * T[k] * product);
    }
  return term.factor * sum;
}

// factor · Σ (S − A)², where S has the rows μ and σ = √(variance + 10⁻⁵).
template <class Real>
double mean_std_term(const Array<Real>& F, const Term<Real>& term, Array<Real>& dF) {
  const int N = F.shape[0], M = F.shape[1] * F.shape[2];
  const auto mu = means(F);
  double sum = 0;
  for (int n = 0; n < N; n++) {
    double variance = 0;
    for (int k = n * M; k < (n + 1) * M; k++) variance += std::pow(F.data[k] - mu[n], 2) / M;
    const double sigma = std::sqrt(variance + 1e-5);
    const double d_mu = mu[n] - term.target.data[n], d_sigma = sigma - term.target.data[N + n];
    sum += d_mu * d_mu + d_sigma * d_sigma;
    for (int k = n * M; k < (n + 1) * M; k++)
      dF.data[k] += Real(2 * term.factor / M * (d_mu + d_sigma * (F.data[k] - mu[n]) / sigma));
  }
  return term.factor * sum;
}

// tv · Σ of the squared differences of neighbours; adds the derivative to the gradient.
template <class Real>
double total_variation(const Array<Real>& x, double tv, Array<Real>& gradient) {
  const int H = x.shape[1], V = x.shape[2];
  double sum = 0;
  auto add = [&](int first, int second) {
    const double d = double(x.data[second]) - x.data[first];
    sum += d * d;
    gradient.data[first] -= Real(2 * tv * d);
    gradient.data[second] += Real(2 * tv * d);
  };
  for (int at = 0; at < 3 * H * V; at++) {
    if (at % V + 1 < V) add(at, at + 1);
    if (at / V % H + 1 < H) add(at, at + V);
  }
  return tv * sum;
}

// ---------------------------------------------------------------------------------------------
// The loss and its gradient.

template <class Real>
Answer<Real> value_and_gradient(const Case<Real>& given) {
  const Array<Real>& x = given.x;
  const int M = x.shape[1] * x.shape[2];
  auto channel = [&](int c) { return given.reversed ? 2 - c : c; };

  // The forward pass: X[name] is what a layer reads, F[name] what it returns.
  Array<Real> v(x.shape);
  for (int at = 0; at < 3 * M; at++) {
    const int c = at / M;
    v.data[at] = Real((x.data[channel(c) * M + at % M] - given.mean[c]) * given.scale[c]);
  }
  std::map<std::string, Array<Real>> X, F;
  Answer<Real> answer;
  for (const auto& layer : given.layers) {
    X[layer.name] = v;
    v = layer.kind == "convolution" ? convolution(v, layer) : pooling(v, layer.kind);
    F[layer.name] = v;
    answer.dF[layer.name] = Array<Real>(v.shape);
  }

  for (const auto& term : given.terms) {
    const auto add = term.statistic == "content"    ? content_term<Real>
                     : term.statistic == "mean-std" ? mean_std_term<Real>
                                                    : gram_term<Real>;
    answer.loss += add(F[term.layer], term, answer.dF[term.layer]);
  }

  // The backward pass: the same layers from the deepest down. dX is the derivative by what the
  // layer above reads, which is what this layer returns.
  Array<Real> dX;
  for (auto layer = given.layers.rbegin(); layer != given.layers.rend(); ++layer) {
    auto& dF = answer.dF[layer->name];
    for (std::size_t k = 0; k < dX.data.size(); k++) dF.data[k] += dX.data[k];
    dX = layer->kind == "convolution" ? convolution_backward(dF, F[layer->name], *layer)
                                      : pooling_backward(dF, X[layer->name], layer->kind);
  }
  answer.gradient = Array<Real>(x.shape);
  for (int at = 0; at < 3 * M; at++) {
    const int c = at / M;
    answer.gradient.data[channel(c) * M + at % M] = Real(dX.data[at] * given.scale[c]);
  }
  answer.loss += total_variation(x, given.tv, answer.gradient);
  return answer;
}

// ---------------------------------------------------------------------------------------------
// JSON: a reader of what the protocol contains, and a writer of texts.

struct Json {
  enum Kind { null, number, text, list, object } kind = null;
  double value = 0;
  std::string string;
  std::vector<Json> items;
  std::map<std::string, Json> members;

  const Json& operator[](const std::string& key) const { return members.at(key); }
};

class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  Json value() {
    Json result;
    const char first = peek();
    if (first == '{') {
      result.kind = Json::object;
      each('{', '}', [&] {
        const std::string key = string();
        expect(':');
        result.members[key] = value();
      });
    } else if (first == '[') {
      result.kind = Json::list;
      each('[', ']', [&] { result.items.push_back(value()); });
    } else if (first == '"') {
      result.kind = Json::text;
      result.string = string();
    } else if (text_.compare(at_, 4, "null") == 0) {
      at_ += 4;
    } else {
      result.kind = Json::number;
      char* end = nullptr;
      result.value = std::strtod(text_.c_str() + at_, &end);
      if (end == text_.c_str() + at_) throw std::runtime_error("the message is not JSON");
      at_ = end - text_.c_str();
    }
    return result;
  }

 private:
  char peek() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  void expect(char sign) {
    if (peek() != sign) throw std::runtime_error("the message is not JSON");
    at_++;
  }

  template <class Function>
  void each(char open, char close, Function item) {
    expect(open);
    while (peek() != close) {
      item();
      if (peek() != close) expect(',');
    }
    expect(close);
  }

  std::string string() {
    expect('"');
    std::string result;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && text_.compare(at_, 2, "\\u") == 0) {
        append_utf8(result, std::stoul(text_.substr(at_ + 2, 4), nullptr, 16));
        at_ += 6;
      } else {
        if (text_[at_] == '\\') at_++;
        result += text_.at(at_++);
      }
    }
    expect('"');
    return result;
  }

  // The characters outside the basic plane, which need two escapes, do not occur.
  static void append_utf8(std::string& to, unsigned long code) {
    if (code < 0x80) {
      to += char(code);
    } else if (code < 0x800) {
      to += char(0xC0 | code >> 6);
      to += char(0x80 | (code & 0x3F));
    } else {
      to += char(0xE0 | code >> 12);
      to += char(0x80 | (code >> 6 & 0x3F));
      to += char(0x80 | (code & 0x3F));
    }
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += (unsigned char)c < 0x20 ? ' ' : c;
  }
  return result + '"';
}

std::string number(double value) {  // with all its digits
  if (!std::isfinite(value)) return "null";
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

// ---------------------------------------------------------------------------------------------
// The messages.

template <class Real>
Array<Real> read_array(const Json& described, const std::string& folder) {
  Array<Real> array;
  for (const Json& n : described["shape"].items) array.shape.push_back(int(n.value));
  array.data.resize(array.size());
  const std::string path = folder + "/" + described["file"].string;
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(array.data.data()), array.size() * sizeof(Real)))
    throw std::runtime_error("cannot read " + path);
  return array;
}

// Write an array and return the name of its file, in quotes.
template <class Real>
std::string write_array(const Array<Real>& array, const std::string& name,
                        const std::string& folder) {
  const std::string file = name + (sizeof(Real) == 4 ? ".f32" : ".f64");
  std::ofstream stream(folder + "/" + file, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(array.data.data()), array.size() * sizeof(Real));
  if (!stream.flush()) throw std::runtime_error("cannot write " + file);
  return quoted(file);
}

template <class Real>
Case<Real> read_case(const Json& message) {
  const std::string folder = message["folder"].string;
  auto array = [&](const Json& described) { return read_array<Real>(described, folder); };
  Case<Real> result;
  result.x = array(message["image"]);
  const Json& preprocessing = message["preprocessing"];
  result.reversed = preprocessing["channels"].string == "BGR";
  for (const Json& each : preprocessing["mean"].items) result.mean.push_back(each.value);
  for (const Json& each : preprocessing["scale"].items) result.scale.push_back(each.value);
  for (const Json& said : message["layers"].items) {
    Layer<Real> layer;
    layer.name = said["name"].string;
    layer.kind = said["kind"].string;
    if (layer.kind == "convolution") {
      layer.padding = said["padding"].string;
      layer.W = array(said["W"]);
      layer.b = array(said["b"]);
    }
    result.layers.push_back(layer);
  }
  auto add = [&](const Json& said, const std::string& statistic, const char* target) {
    Term<Real> term;
    term.layer = said["layer"].string;
    term.factor = said["factor"].value;
    term.statistic = statistic;
    term.target = array(said[target]);
    if (said.members.count("T")) term.T = array(said["T"]);
    result.terms.push_back(term);
  };
  if (message["content"].kind != Json::null) add(message["content"], "content", "P");
  for (const Json& said : message["style"].items) add(said, "gram", "A");
  for (const Json& said : message["regions"].items) add(said, "gram", "A");
  for (const Json& said : message["statistics"].items) add(said, said["statistic"].string, "A");
  result.tv = message["tv"].value;
  return result;
}

template <class Real>
std::string answered(const Json& message) {
  const Case<Real> given = read_case<Real>(message);
  const auto began = std::chrono::steady_clock::now();
  const Answer<Real> found = value_and_gradient(given);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  const std::string folder = message["folder"].string;
  std::string dF;
  for (const auto& [layer, array] : found.dF) {
    if (!dF.empty()) dF += ", ";
    dF += quoted(layer) + ": " + write_array(array, layer + ".dF", folder);
  }
  return "{\"message\": \"answer\", \"case\": " + number(message["case"].value) +
         ", \"loss\": " + number(found.loss) +
         ", \"gradient\": " + write_array(found.gradient, "gradient", folder) +
         ", \"dF\": {" + dF + "}, \"seconds\": " + number(took.count()) + "}";
}

std::string answer_to(const Json& message) {
  if (message["message"].string == "greeting")
    return "{\"message\": \"hello\", \"protocol\": 1, \"name\": \"plain C++\", "
           "\"version\": \"1\", \"dtypes\": [\"float32\", \"float64\"], \"files\": \"raw\"}";
  try {
    const bool single = message["dtype"].string == "float32";
    return single ? answered<float>(message) : answered<double>(message);
  } catch (const std::exception& error) {
    return "{\"message\": \"error\", \"case\": " + number(message["case"].value) +
           ", \"text\": " + quoted(error.what()) + "}";
  }
}

int main() {
  for (std::string line; std::getline(std::cin, line);)
    std::cout << answer_to(Reader(line).value()) << std::endl;
}

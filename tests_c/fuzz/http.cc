// The reader of HTTP: what it makes of bytes does not depend on how they were cut, and keeps to its
// bounds.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "http_reader.h"

using flint::server::HttpReader;
using flint::server::HttpRefusal;
using flint::server::HttpRequest;

namespace {

class Nothing : public HttpReader::HeadCheck {
 public:
  void CheckHead(const HttpRequest& /*request*/, HttpRefusal* /*refusal*/) override {}
};

void Require(bool condition) {
  if (!condition) std::abort();
}

std::string Told(const HttpRequest& request) {
  std::string told;
  for (const std::string* part :
       {&request.method, &request.target, &request.path, &request.query, &request.host,
        &request.authorization, &request.content_type, &request.accept, &request.origin,
        &request.fetch_site, &request.body}) {
    told += *part + '\n';
  }
  for (const bool one : {request.chunked, request.expects_continue, request.version_1_0,
                         request.keep_alive, request.has_body()}) {
    told += one ? '1' : '0';
  }
  return told;
}

// All requests of `bytes`, which come `part` by `part`, and how it ended.
std::vector<std::string> ReadAll(std::string_view bytes, size_t part) {
  Nothing nothing;
  HttpReader reader(&nothing);
  std::vector<std::string> told;
  while (!bytes.empty()) {
    std::string_view next = bytes.substr(0, part);
    bytes.remove_prefix(next.size());
    while (!next.empty()) {
      size_t used = 0;
      const HttpReader::Event event = reader.Read(next, &used);
      Require(used <= next.size());
      if (event == HttpReader::Event::kRefused) {
        Require(reader.refusal().status >= 400 && reader.refusal().status < 600);
        told.push_back("refused " + std::to_string(reader.refusal().status));
        return told;
      }
      if (event == HttpReader::Event::kRequest) {
        const HttpRequest& request = reader.request();
        Require(used > 0);
        Require(request.target.size() <= HttpReader::kMaxTargetBytes);
        Require(request.body.size() <= HttpReader::kMaxBodyBytes);
        Require(request.chunked || request.body.size() == request.content_length);
        told.push_back(Told(request));
      }
      next.remove_prefix(used);
    }
  }
  told.push_back(reader.between_requests() ? "between" : "within");
  return told;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.empty()) return 0;
  const std::vector<std::string> whole = ReadAll(bytes, bytes.size());
  Require(ReadAll(bytes, 1) == whole);
  Require(ReadAll(bytes, 1 + data[0] % 61U) == whole);
  return 0;
}

#pragma once

#include <llhttp.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace flint::server {

struct HttpRequest {
  std::string method;
  std::string target;  // as it came
  std::string path;    // of the target, still percent-encoded
  std::string query;   // behind the `?`
  std::string host;
  std::string authorization;
  std::string content_type;
  std::string accept;
  std::string origin;
  std::string fetch_site;
  std::string body;
  uint64_t content_length = 0;
  bool has_length = false;  // whether a length is said
  bool chunked = false;
  bool expects_continue = false;
  bool version_1_0 = false;
  bool keep_alive = true;

  bool has_body() const { return chunked || content_length > 0; }
};

// Why a request is not read on: the stream is closed behind the answer.
struct HttpRefusal {
  int status = 0;
  std::string body;
  bool json = false;  // otherwise it is text
  std::string field;  // another field of the head, with its end of line
};

// Reads HTTP/1.1 and 1.0 by llhttp in its strict form, which finds what is malformed and the forms
// of RFC 9112 in which two readers could differ about where a request ends. Bounds and what llhttp
// does not ask for (Host, the version, codings) are added here. Knows no connection.
class HttpReader {
 public:
  static constexpr size_t kMaxHeadBytes = size_t{16} * 1024;
  static constexpr size_t kMaxFields = 100;
  static constexpr size_t kMaxTargetBytes = size_t{4} * 1024;
  static constexpr size_t kMaxBodyBytes = size_t{64} * 1024;

  enum class Event : uint8_t { kMore, kRequest, kRefused };

  // Looks at a head when it is whole and its body is still to come; sets the refusal, or does not.
  class HeadCheck {
   public:
    virtual ~HeadCheck() = default;
    virtual void CheckHead(const HttpRequest& request, HttpRefusal* refusal) = 0;
  };

  explicit HttpReader(HeadCheck* check);
  HttpReader(const HttpReader&) = delete;
  HttpReader& operator=(const HttpReader&) = delete;

  // Reads to the end of a request or of `bytes`; `used` is how far.
  Event Read(std::string_view bytes, size_t* used);

  // After kRequest.
  HttpRequest& request() { return request_; }
  const HttpRefusal& refusal() const { return refusal_; }
  bool between_requests() const { return !begun_; }
  bool in_body() const { return in_body_; }

 private:
  static HttpReader* Of(llhttp_t* parser) { return static_cast<HttpReader*>(parser->data); }
  static const llhttp_settings_t* Settings();

  int OnBegin();
  int OnTarget(std::string_view part);
  int OnFieldName(std::string_view part);
  int OnFieldValue(std::string_view part);
  int OnFieldEnd();
  int OnHeadEnd();
  int OnBody(std::string_view part);
  int CountHead(size_t bytes);
  int Refuse(int status, std::string_view why);
  bool SplitTarget();
  void CheckFraming();

  HeadCheck* const check_;
  llhttp_t parser_{};
  HttpRequest request_;
  HttpRefusal refusal_;
  std::string name_;
  std::string value_;
  size_t head_bytes_ = 0;      // of names and values
  size_t raw_head_bytes_ = 0;  // of reads that did not reach its end
  size_t fields_ = 0;
  uint32_t hosts_ = 0;
  uint32_t codings_ = 0;
  uint32_t lengths_ = 0;
  std::string coding_;
  bool begun_ = false;
  bool in_body_ = false;
};

// Whether a Host, or what stands for it in a target, names this machine: localhost, 127.0.0.0/8 or
// [::1], with or without a port.
bool IsLoopbackHost(std::string_view host);

// Whether an Accept takes what is of this type; an empty one takes all.
bool Accepts(std::string_view accept, std::string_view type);

// Whether a Content-Type is JSON.
bool IsJson(std::string_view content_type);

}  // namespace flint::server

#include "http_reader.h"

#include <algorithm>
#include <utility>

#include "text.h"

namespace flint::server {
namespace {

constexpr std::string_view kBodyTooLarge =
    "Failed to buffer the request body: length limit exceeded";

bool IsHostCharacter(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("-._~%!$&'()*+;=:[]").find(c) != std::string_view::npos;
}

}  // namespace

HttpReader::HttpReader(HeadCheck* check) : check_(check) {
  llhttp_init(&parser_, HTTP_REQUEST, Settings());
  parser_.data = this;
}

const llhttp_settings_t* HttpReader::Settings() {
  static const llhttp_settings_t settings = [] {
    llhttp_settings_t all{};
    llhttp_settings_init(&all);
    all.on_message_begin = [](llhttp_t* parser) { return Of(parser)->OnBegin(); };
    all.on_url = [](llhttp_t* parser, const char* at, size_t size) {
      return Of(parser)->OnTarget({at, size});
    };
    all.on_header_field = [](llhttp_t* parser, const char* at, size_t size) {
      return Of(parser)->OnFieldName({at, size});
    };
    all.on_header_value = [](llhttp_t* parser, const char* at, size_t size) {
      return Of(parser)->OnFieldValue({at, size});
    };
    all.on_header_value_complete = [](llhttp_t* parser) { return Of(parser)->OnFieldEnd(); };
    all.on_headers_complete = [](llhttp_t* parser) { return Of(parser)->OnHeadEnd(); };
    all.on_body = [](llhttp_t* parser, const char* at, size_t size) {
      return Of(parser)->OnBody({at, size});
    };
    all.on_chunk_extension_name = [](llhttp_t* parser, const char* /*at*/, size_t size) {
      return Of(parser)->CountHead(size);
    };
    all.on_chunk_extension_value = all.on_chunk_extension_name;
    all.on_message_complete = [](llhttp_t* /*parser*/) { return static_cast<int>(HPE_PAUSED); };
    return all;
  }();
  return &settings;
}

HttpReader::Event HttpReader::Read(std::string_view bytes, size_t* used) {
  const bool in_head = !in_body_;
  const llhttp_errno_t code = llhttp_execute(&parser_, bytes.data(), bytes.size());
  *used = bytes.size();
  if (code == HPE_PAUSED) {
    *used = static_cast<size_t>(llhttp_get_error_pos(&parser_) - bytes.data());
    llhttp_resume(&parser_);
    begun_ = false;
    in_body_ = false;
    raw_head_bytes_ = 0;
    request_.keep_alive = llhttp_should_keep_alive(&parser_) != 0;
    return Event::kRequest;
  }
  if (code == HPE_OK && in_head && !in_body_) {
    begun_ = true;  // ends of line before a request count as its beginning
    // A head may not be stretched by what llhttp skips either.
    raw_head_bytes_ += bytes.size();
    if (raw_head_bytes_ <= kMaxHeadBytes + 2 * kMaxTargetBytes) return Event::kMore;
    Refuse(431, "the head is too long");
  } else if (code == HPE_OK) {
    return Event::kMore;
  }
  if (refusal_.status == 0) Refuse(400, llhttp_get_error_reason(&parser_));
  return Event::kRefused;
}

int HttpReader::Refuse(int status, std::string_view why) {
  refusal_.status = status;
  refusal_.body = why;
  return HPE_USER;
}

int HttpReader::OnBegin() {
  request_ = HttpRequest();
  head_bytes_ = 0;
  fields_ = 0;
  hosts_ = 0;
  codings_ = 0;
  lengths_ = 0;
  coding_.clear();
  name_.clear();
  value_.clear();
  begun_ = true;
  return HPE_OK;
}

int HttpReader::OnTarget(std::string_view part) {
  request_.target.append(part);
  return request_.target.size() <= kMaxTargetBytes ? HPE_OK : Refuse(414, "URI too long");
}

int HttpReader::CountHead(size_t bytes) {
  head_bytes_ += bytes;
  if (head_bytes_ <= kMaxHeadBytes) return HPE_OK;
  return Refuse(431, "the head has more than 16384 bytes");
}

int HttpReader::OnFieldName(std::string_view part) {
  name_.append(part);
  return CountHead(part.size());
}

int HttpReader::OnFieldValue(std::string_view part) {
  value_.append(part);
  return CountHead(part.size());
}

int HttpReader::OnFieldEnd() {
  fields_++;
  const std::string name = std::exchange(name_, {});
  const std::string value = std::exchange(value_, {});
  if (fields_ > kMaxFields) return Refuse(431, "the head has more than 100 fields");
  if (in_body_) return HPE_OK;  // of a trailer
  const auto is = [&](std::string_view other) { return EqualFold(name, other); };
  if (is("host")) {
    hosts_++;
    request_.host = value;
  } else if (is("authorization")) {
    // Two of them are none.
    request_.authorization = request_.authorization.empty() ? value : " ";
  } else if (is("content-type")) {
    request_.content_type = request_.content_type.empty() ? value : " ";
  } else if (is("content-length")) {
    lengths_++;
  } else if (is("transfer-encoding")) {
    codings_++;
    coding_ = value;
  } else if (is("accept")) {
    request_.accept += request_.accept.empty() ? value : "," + value;
  } else if (is("origin")) {
    request_.origin = value;
  } else if (is("sec-fetch-site")) {
    request_.fetch_site = value;
  } else if (is("expect")) {
    request_.expects_continue = EqualFold(value, "100-continue");
    if (!request_.expects_continue) return Refuse(417, "only 100-continue can be expected");
  }
  return HPE_OK;
}

// Splits an absolute target (whose host stands for the field's) or one that begins with `/`.
bool HttpReader::SplitTarget() {
  std::string_view rest = request_.target;
  const size_t scheme = EqualFold(rest.substr(0, 8), "https://") ? 8 : 7;
  if (scheme == 8 || EqualFold(rest.substr(0, 7), "http://")) {
    rest.remove_prefix(scheme);
    const size_t slash = std::min(rest.find('/'), rest.size());
    request_.host = rest.substr(0, slash);
    rest.remove_prefix(slash);
  }
  if (!rest.starts_with('/') && request_.target != "*") return false;
  rest = rest.substr(0, rest.find('#'));
  const size_t question = std::min(rest.find('?'), rest.size());
  request_.path = rest.substr(0, question);
  request_.query = rest.substr(std::min(question + 1, rest.size()));
  return true;
}

void HttpReader::CheckFraming() {
  const bool version_1 = parser_.http_major == 1 && parser_.http_minor <= 1;
  request_.version_1_0 = parser_.http_minor == 0;
  const bool host_ok = std::all_of(request_.host.begin(), request_.host.end(), IsHostCharacter);
  if (!version_1) {
    // Without a version it would be 0.9.
    Refuse(parser_.http_major == 0 ? 400 : 505, "only HTTP/1.1 and 1.0 are spoken here");
  } else if (hosts_ > 1 || (hosts_ == 0 && !request_.version_1_0) || !host_ok) {
    Refuse(400, "the head must have one Host, and that a name");
  } else if (codings_ > 0 && (request_.version_1_0 || codings_ > 1 || lengths_ > 0)) {
    Refuse(400, "it is not clear where the body ends");
  } else if (codings_ > 0 && !EqualFold(coding_, "chunked")) {
    Refuse(400, "chunked is the only transfer coding that is known");
  } else if (lengths_ > 1) {
    Refuse(400, "there is more than one Content-Length");
  } else if (!SplitTarget()) {
    Refuse(400, "the target must be a path");
  }
}

int HttpReader::OnHeadEnd() {
  // Another protocol is never taken up, so what follows is a body or the next request.
  parser_.upgrade = 0;
  in_body_ = true;
  request_.method = llhttp_method_name(static_cast<llhttp_method_t>(parser_.method));
  request_.chunked = codings_ > 0;
  request_.has_length = lengths_ > 0;
  request_.content_length = lengths_ > 0 ? parser_.content_length : 0;
  CheckFraming();
  if (refusal_.status == 0 && request_.content_length > kMaxBodyBytes) {
    Refuse(413, kBodyTooLarge);
  }
  if (refusal_.status == 0 && request_.has_body()) check_->CheckHead(request_, &refusal_);
  return refusal_.status == 0 ? HPE_OK : HPE_USER;
}

int HttpReader::OnBody(std::string_view part) {
  request_.body.append(part);
  return request_.body.size() <= kMaxBodyBytes ? HPE_OK : Refuse(413, kBodyTooLarge);
}

bool IsLoopbackHost(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t bracket = host.find(']');
    return host.substr(0, bracket + 1) == "[::1]" &&
           (bracket + 1 == host.size() || host[bracket + 1] == ':');
  }
  host = host.substr(0, host.find(':'));
  if (EqualFold(host, "localhost")) return true;
  // Numbers alone: 127.evil.example is a name.
  return host.starts_with("127.") &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool Accepts(std::string_view accept, std::string_view type) {
  if (Trim(accept).empty() || type.empty()) return true;
  const std::string range = std::string(type.substr(0, type.find('/') + 1)) + "*";
  size_t best = 0;  // the most exact of what fits counts
  bool taken = false;
  while (!accept.empty()) {
    const size_t end = std::min(accept.find(','), accept.size());
    std::string_view entry = accept.substr(0, end);
    accept.remove_prefix(std::min(end + 1, accept.size()));
    const std::string_view media = Trim(entry.substr(0, entry.find(';')));
    const size_t exact = EqualFold(media, type)    ? 3
                         : EqualFold(media, range) ? 2
                         : media == "*/*"          ? 1
                                                   : 0;
    if (exact == 0 || exact < best) continue;
    bool refused = false;
    while (entry.find(';') != std::string_view::npos) {
      entry.remove_prefix(entry.find(';') + 1);
      const std::string_view parameter = Trim(entry.substr(0, entry.find(';')));
      const bool quality = EqualFold(parameter.substr(0, 2), "q=");
      refused |= quality && parameter.find_first_not_of("0.", 2) == std::string_view::npos;
    }
    taken = (exact == best && taken) || !refused;
    best = exact;
  }
  return taken;
}

bool IsJson(std::string_view content_type) {
  const std::string_view type = Trim(content_type.substr(0, content_type.find(';')));
  if (EqualFold(type, "application/json")) return true;
  constexpr std::string_view kPrefix = "application/";
  constexpr std::string_view kSuffix = "+json";
  return type.size() > kPrefix.size() + kSuffix.size() &&
         EqualFold(type.substr(0, kPrefix.size()), kPrefix) &&
         EqualFold(type.substr(type.size() - kSuffix.size()), kSuffix);
}

}  // namespace flint::server

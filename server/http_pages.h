#pragma once

#include <memory>
#include <string>
#include <utility>

#include "calls.h"
#include "http_exchange.h"

namespace flint::server {

// A JSON list of any length as an answer. A page of it is read by another thread when the client
// has taken most of the one before, so it takes little memory.
class HttpPages : public std::enable_shared_from_this<HttpPages> {
 public:
  explicit HttpPages(std::shared_ptr<HttpExchange> exchange) : exchange_(std::move(exchange)) {}
  virtual ~HttpPages() = default;
  HttpPages(const HttpPages&) = delete;
  HttpPages& operator=(const HttpPages&) = delete;

  void ReadPage() {
    const auto self = shared_from_this();
    exchange_->RunAside([self](uint32_t) { return self->ReadAside(); },
                        [self](const Outcome& outcome) { self->OnPage(outcome); });
  }

 protected:
  HttpExchange* exchange() { return exchange_.get(); }

  // On another thread: adds the entries of the next page by Add. `last` is set behind the last.
  virtual Outcome Read(bool* last) = 0;
  // The place for an entry, behind a comma if it is not the first.
  std::string* Add() {
    if (std::exchange(any_, true)) page_.push_back(',');
    return &page_;
  }

 private:
  Outcome ReadAside() {
    page_.clear();
    return Read(&last_);
  }

  void OnPage(const Outcome& outcome) {
    if (!outcome.ok()) {
      if (begun_) {
        exchange_->Break();
      } else {
        exchange_->Fail(outcome);
      }
      return;
    }
    if (!begun_) exchange_->Begin(HttpExchange::kJson);
    const auto self = shared_from_this();
    const std::string part = (begun_ ? "" : "[") + page_ + (last_ ? "]" : "");
    begun_ = true;
    exchange_->Part(part, [self] {
      if (self->last_) {
        self->exchange_->End();
      } else {
        self->ReadPage();
      }
    });
  }

  const std::shared_ptr<HttpExchange> exchange_;
  std::string page_;
  bool last_ = false;
  bool any_ = false;
  bool begun_ = false;
};

}  // namespace flint::server

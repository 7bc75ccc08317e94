#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http_exchange.h"
#include "http_handlers.h"
#include "json_bodies.h"

namespace flint::server {
namespace {

constexpr size_t kEntries = 256;

class Listing : public std::enable_shared_from_this<Listing> {
 public:
  explicit Listing(std::shared_ptr<HttpExchange> exchange)
      : exchange_(std::move(exchange)),
        cursor_(FLINT_LIMITER_MAX_CURSOR_BYTES, '\0'),
        counters_(exchange_->Asks("counters")),
        inline_(!exchange_->Asks("inline", "false")),
        details_(exchange_->Asks("details")) {}

  void ReadPage() {
    const auto self = shared_from_this();
    exchange_->RunAside([self](uint32_t) { return self->Read(); },
                        [self](const Outcome& outcome) { self->OnPage(outcome); });
  }

 private:
  // On another thread, while the loop waits for it.
  Outcome Read() {
    std::vector<flint_limiter_status_info> entries(kEntries);
    for (auto& entry : entries) entry.struct_size = sizeof entry;
    std::string text(FLINT_LIMITER_MIN_TEXT_BYTES, '\0');
    flint_limiter_error error = NoError();
    count_ = 0;
    const uint32_t flags = counters_ ? FLINT_LIMITER_ALL_COUNTERS : 0;
    const int32_t code =
        flint_limiter_list_page(exchange_->limiter(), cursor_.data(), cursor_bytes_, flags,
                                entries.data(), entries.size(), sizeof entries[0], text.data(),
                                text.size(), &count_, cursor_.data(), &cursor_bytes_, &error);
    page_.clear();
    for (uint64_t i = 0; i < count_; i++) {
      const flint_limiter_status_info& one = entries[i];
      if (!inline_ && one.kind == FLINT_LIMITER_KIND_INLINE) continue;
      std::string key(one.key, one.key_bytes);
      if (one.kind == FLINT_LIMITER_KIND_TEMPLATE) key.push_back('*');
      if (any_) page_.push_back(',');
      any_ = true;
      AppendStatus(key, {one.name, one.name_bytes}, one, details_, &page_);
    }
    return OutcomeOf(code, error);
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
    const std::string part = (begun_ ? "" : "[") + page_ + (count_ == 0 ? "]" : "");
    begun_ = true;
    if (count_ == 0) {
      exchange_->Part(part, [self] { self->exchange_->End(); });
    } else {
      exchange_->Part(part, [self] { self->ReadPage(); });
    }
  }

  const std::shared_ptr<HttpExchange> exchange_;
  std::string cursor_;
  uint64_t cursor_bytes_ = 0;
  std::string page_;
  uint64_t count_ = 0;
  const bool counters_;
  const bool inline_;
  const bool details_;
  bool any_ = false;
  bool begun_ = false;
};

}  // namespace

// Answers with all limits, page by page: a page is read by another thread when the client has taken
// most of the one before, so a listing of any length takes little memory.
void AnswerListing(const std::shared_ptr<HttpExchange>& exchange) {
  std::make_shared<Listing>(exchange)->ReadPage();
}

}  // namespace flint::server

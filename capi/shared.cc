#include "shared.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "convert.h"

namespace flint {
namespace {

constexpr uint64_t kOpenTimeoutNs = 10'000'000'000;
constexpr uint64_t kAnswerTimeoutNs = 1'000'000'000;

int32_t Told(const Status& status, flint_limiter_error* error) {
  if (status.ok()) return FLINT_LIMITER_OK;
  const Status::Detail* const detail = status.detail();
  std::string_view message = CodeSentence(status.code());
  if (detail != nullptr) message = detail->message;
  WriteError(status.code(), detail, message, error);
  return static_cast<int32_t>(status.code());
}

class Home final : public sharing::Member::Home {
 public:
  Home(flint_limiter* limiter, std::string directory, const flint_limiter_options& options)
      : limiter_(limiter), directory_(std::move(directory)), options_(options) {
    options_.lock_timeout_ns = 0;  // who waits is a client meanwhile
  }

  int32_t Open(flint_limiter_error* error) override {
    Engine::Options read;
    Status status = ReadOptions(&options_, &read);
    if (status.ok()) status = Engine::Open(directory_, std::move(read), &opened_);
    return Told(status, error);
  }
  void Discard() override { opened_.reset(); }
  void MoveIn() override {
    Engine* const engine = opened_.get();
    limiter_->place = std::move(opened_);
    limiter_->engine = engine;
  }
  // It is the parent's, whose threads may be in it, and stays as it is.
  void LeaveInChild() override {
    limiter_->engine = nullptr;
    // NOLINTBEGIN(bugprone-unused-return-value)
    static_cast<void>(limiter_->place.release());
    static_cast<void>(opened_.release());
    // NOLINTEND(bugprone-unused-return-value)
  }

 private:
  flint_limiter* const limiter_;
  const std::string directory_;
  flint_limiter_options options_;
  std::unique_ptr<Engine> opened_;
};

}  // namespace

int32_t OpenShared(const std::string& directory, const flint_limiter_options& options,
                   std::unique_ptr<flint_limiter>* limiter, flint_limiter_error* error) {
  if (directory.empty()) {
    return Told(Status(Code::kInvalidArgument, "what is kept in memory alone cannot be shared"),
                error);
  }
  // Wherever the program goes later.
  std::error_code unknown;
  const std::string path = std::filesystem::absolute(directory, unknown).string();
  auto made = std::make_unique<flint_limiter>();
  made->home = std::make_unique<Home>(made.get(), unknown ? directory : path, options);
  sharing::Member::Settings settings;
  settings.channel.directory = unknown ? directory : path;
  settings.channel.sync = options.sync;
  settings.channel.answer_timeout_ns =
      options.answer_timeout_ns == 0 ? kAnswerTimeoutNs : options.answer_timeout_ns;
  settings.open_timeout_ns =
      options.lock_timeout_ns == 0 ? kOpenTimeoutNs : options.lock_timeout_ns;
  settings.on_error = options.on_error;
  made->member = std::make_unique<sharing::Member>(made.get(), made->home.get(), settings);
  const int32_t code = made->member->Open(error);
  if (code == FLINT_LIMITER_OK) *limiter = std::move(made);
  return code;
}

}  // namespace flint
